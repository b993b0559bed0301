"""Rebuilds and proofs of the tables, as this room does them: what comes of one is an event on the stream ``system``."""

from uuid import UUID

from events.catalogue import ProjectionRebuilt, ProjectionVerified
from events.dialling import Pool
from events.envelope import SYSTEM
from events.ids import uuid7
from events.lease import Leases
from gateway import context
from gateway.recorder import Recorder, Who
from projections.proof import Prover
from projections.rebuild import Rebuilder


def rebuilder(recorder: Recorder, pool: Pool, leases: Leases, *, who: Who, holder: str) -> Rebuilder:
    """Rebuilds for ``who``; ``holder`` is what a second one is told."""

    async def tell(told_id: UUID, done: ProjectionRebuilt) -> None:
        await recorder.fact(SYSTEM, done, who=who, cause=context.cause(), event_id=told_id)

    return Rebuilder(recorder.store, pool, leases, holder=holder, tell=tell)


class Proofs:
    """Proves for ``who``. ``last``: the event that told of the last proof of each table, by its name."""

    def __init__(self, recorder: Recorder, pool: Pool, *, who: Who) -> None:
        self._recorder, self._who = recorder, who
        self.last: dict[str, UUID] = {}
        self.prover = Prover(recorder.store, pool, tell=self._tell)

    async def _tell(self, done: ProjectionVerified) -> None:
        event_id = uuid7()
        await self._recorder.fact(SYSTEM, done, who=self._who, cause=context.cause(), event_id=event_id)
        self.last[done.projection] = event_id
