"""What comes of a rebuild or a proof is an event of whoever did it, once."""

import pytest

from events import codec
from events.catalogue import ProjectionRebuilt, ProjectionVerified
from events.envelope import SYSTEM, ActorKind
from events.keyring import MemoryKeyring
from gateway.rebuilds import Proofs, rebuilder
from gateway.recorder import Recorder, Who
from projections.tables import SESSIONS
from tests.event_fixtures import LogDatabase
from tests.projections.rebuilding import Killed, ground, killing

pytestmark = pytest.mark.postgres
WHO = Who(kind=ActorKind.GATEWAY, id="gw-1")


async def test_each_is_told_once_on_the_stream_system(empty_log: LogDatabase) -> None:
    """Also when the process died between the exchange of the tables and the event."""
    async with ground(empty_log) as on:
        recorder = Recorder(on.store, MemoryKeyring())
        work = rebuilder(recorder, on.store.pool, on.leases, who=WHO, holder="gw-1")
        with pytest.raises(Killed):
            await work.rebuild(SESSIONS, watch=killing("swapped"))
        assert await work.tell_former(SESSIONS)
        proofs = Proofs(recorder, on.store.pool, who=WHO)
        await proofs.prover.prove(SESSIONS)
        told = await on.store.read_log(types=("projection.*",))
        assert [event.stream_id for event in told] == [SYSTEM, SYSTEM]
        assert {codec.decode_actor(event).id for event in told} == {"gw-1"}
        rebuilt, verified = (codec.decode(event) for event in told)
        assert isinstance(rebuilt, ProjectionRebuilt) and isinstance(verified, ProjectionVerified)
        assert (rebuilt.rows, rebuilt.differing) == (verified.rows, verified.differing) == (12, 0)
        assert proofs.last == {"sessions": told[1].event_id}
