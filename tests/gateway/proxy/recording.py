"""An exchange log that writes into a log with faults, and exchanges for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from events.catalogue import ExchangeCompleted, ExchangeOpened, ExchangeSummarized
from events.codec import decode
from events.envelope import ActorKind
from events.errors import UnreadableEvent
from events.ids import uuid7
from events.keyring import MemoryKeyring
from events.sealing import SubjectKey
from gateway.proxy.errors import ProxyError
from gateway.proxy.exchange_records import Exchange
from gateway.proxy.exchanges import QUEUE, ExchangeLog
from gateway.proxy.result import EndedBy, ExchangeResult, Opened
from gateway.proxy.settings import AccessSettings
from gateway.recorder import Recorder, Who, session_subject
from tests.event_fixtures import until
from tests.factories import CAUSE
from tests.gateway.faulty import FaultyStore

BEHIND: Final = AccessSettings()
OPENED: Final = Opened(200, True, 5_000)


class Keyring(MemoryKeyring):
    """``broken``: the ids of keys that cannot be unwrapped, as after a change of the sealing secret."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()

    async def keys(self, ids: Any) -> dict[str, SubjectKey]:
        wanted = set(ids)
        if wanted & self.broken:
            raise UnreadableEvent("wrapped under another sealing secret")
        return await super().keys(wanted)


class Written:
    """An ExchangeLog that writes, and what it wrote."""

    def __init__(self, settings: AccessSettings, store: FaultyStore, capacity: int) -> None:
        self.store = store
        self.keyring = Keyring()
        self.log = ExchangeLog(Recorder(self.store, self.keyring), settings, capacity=capacity)

    async def refused(self, times: int) -> None:
        """Wait until the log has refused so many calls."""

        async def enough() -> bool:
            return self.store.refused >= times

        await until(enough)

    async def payloads(self) -> list[Any]:
        """What it wrote, after all that it was given."""
        assert await self.log.flush(10)
        return await self.so_far()

    async def so_far(self) -> list[Any]:
        """What it has written."""
        return [decode(event) for event in await self.store.read_log(limit=10_000)]


@contextlib.asynccontextmanager
async def writing(
    settings: AccessSettings = BEHIND, *, store: FaultyStore | None = None, capacity: int = QUEUE
) -> AsyncIterator[Written]:
    """An exchange log that writes meanwhile."""
    it = Written(settings, store or FaultyStore(), capacity)
    await it.keyring.key_for(session_subject("s1"))  # as when it was opened
    task = asyncio.create_task(it.log.run())
    try:
        yield it
        assert not task.done(), "it died of what it was given"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def counted(told: Iterable[Any]) -> int:
    """How many exchanges these payloads tell of."""
    count = 0
    for each in told:
        match each:
            case ExchangeCompleted() | ExchangeOpened():
                count += 1
            case ExchangeSummarized():
                count += each.exchanges
    return count


def exchange(
    container: str = "c1", *, session_id: str = "s1", owner_key: str | None = None, path: str = "/x"
) -> Exchange:
    """A POST to a container."""
    return Exchange(
        exchange_id=uuid7(),
        session_id=session_id,
        container=container,
        owner_key=owner_key,
        kind="http",
        method="POST",
        path=path,
        client="192.0.2.7",
        who=Who(kind=ActorKind.SESSION, id="s1"),
        cause=CAUSE,
    )


def result(bytes_out: int = 7, error: ProxyError | None = None, **more: Any) -> ExchangeResult:
    """Its end: three bytes in."""
    return ExchangeResult(
        status=200,
        started=True,
        bytes_in=3,
        bytes_out=bytes_out,
        first_byte_ns=2_500,
        duration_ns=9_999_000,
        ended_by=EndedBy.CONTAINER,
        reason="complete",
        error=error,
        **more,
    )
