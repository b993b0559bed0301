"""Load, decide, append, again on conflict: what two gateways on one log agree on, and what a refusal costs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import msgspec
import pytest
import pytest_asyncio

from docker import names
from events.catalogue import AccessDenied, TokenIssued
from events.envelope import ANY, SYSTEM, ActorKind, StreamWrite, session_stream
from events.errors import StoreUnavailable
from events.ids import named, short
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from events.store import EventStore, Fenced
from gateway.errors import Refused
from gateway.recorder import NotAppended, Recorder, Who
from gateway.sessions.commands import (
    MarkFailed,
    MarkReady,
    MarkStopped,
    OpenSession,
    RemoveData,
    ResumeSession,
    RevealToken,
    StopSession,
)
from gateway.sessions.handler import Handled, Origin, SessionHandler
from projections.lifecycle import Phase
from projections.projection import fold
from projections.session_state import Sessions
from projections.views import Views
from tests.event_fixtures import LogDatabase, open_store
from tests.factories import CAUSE, MOMENT, payload, raw
from tests.gateway.world import ORIGIN, Through, Wired

SEATS = 3


class Desk:
    """One process's handler and views on a log."""

    def __init__(self, store: EventStore, limit: int = SEATS, *, through: Through | None = None) -> None:
        self.store = cast(EventStore, Wired(store, through)) if through else store
        self.views = Views(self.store)
        self.recorder = Recorder(self.store, MemoryKeyring())
        self.handler = SessionHandler(self.recorder, self.views, limit)

    async def open(self, session_id: str | None = None, origin: Origin = ORIGIN) -> Handled:
        return await self.handler.handle(opening(session_id or f"ses_{short()}"), origin)

    async def ended(self, session_id: str) -> Handled:
        """A session that is stopped again."""
        opened = (await self.open(session_id)).state
        await self.handler.handle(MarkReady(session_id=session_id, generation=opened.generation, boot_us=1), ORIGIN)
        await self.handler.handle(StopSession(session_id=session_id), ORIGIN)
        return await self.handler.handle(MarkStopped(session_id=session_id, generation=opened.generation), ORIGIN)


def mint(session_id: str) -> Callable[[int], TokenIssued]:
    return lambda serial: payload(
        TokenIssued, session_id=session_id, serial=serial, expires_at=MOMENT + timedelta(days=1)
    )


def opening(session_id: str, folder: str | None = None) -> OpenSession:
    return OpenSession(
        session_id=session_id,
        container=names.container_name(),
        image="echo",
        runtime="mock",
        volumes=("h", "w"),
        opened_by="k1",
        owner=None,
        metadata=None,
        host_dir_mac=folder,
        instance="g1",
        mint=mint(session_id),
    )


def resuming(session_id: str, instance: str = "g2") -> ResumeSession:
    return ResumeSession(
        session_id=session_id,
        container=names.container_name(),
        runtime="mock",
        instance=instance,
        mint=mint(session_id),
    )


@asynccontextmanager
async def desk(store: EventStore, limit: int = SEATS, *, through: Through | None = None) -> AsyncIterator[Desk]:
    made = Desk(store, limit, through=through)
    await made.views.load()
    following = asyncio.create_task(made.views.run())
    try:
        yield made
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest_asyncio.fixture
async def desks(empty_log_of_backend: LogDatabase | None) -> AsyncIterator[tuple[Desk, Desk]]:
    """Two processes on one empty log, each with a store of its own where that is possible."""
    async with contextlib.AsyncExitStack() as stack:
        if empty_log_of_backend is None:
            memory = MemoryEventStore()
            one: EventStore = memory
            two: EventStore = memory
        else:
            one, two = [await stack.enter_async_context(open_store(empty_log_of_backend.app_dsn)) for _ in range(2)]
        yield (await stack.enter_async_context(desk(one)), await stack.enter_async_context(desk(two)))


@pytest_asyncio.fixture
async def one() -> AsyncIterator[Desk]:
    async with desk(MemoryEventStore()) as made:
        yield made


async def refusal(work: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await work
    return caught.value


async def test_the_seats_are_exact_under_racing_creates(desks: tuple[Desk, Desk]) -> None:
    """50 at once through two processes: as many sessions as seats, and each refusal told once (row E5)."""
    outcomes = await asyncio.gather(*(desks[n % 2].open() for n in range(50)), return_exceptions=True)
    granted = [outcome for outcome in outcomes if isinstance(outcome, Handled)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert (len(granted), len(refused)) == (SEATS, 50 - SEATS)
    assert {(error.slug, error.status) for error in refused} == {("too-many-sessions", 429)}
    log = await desks[0].store.read_log(limit=1000)
    assert [event.type for event in log].count("session.requested") == SEATS
    assert [event.type for event in log].count("admission.granted") == SEATS
    assert [event.type for event in log].count("admission.denied") == 50 - SEATS
    for each in desks:
        await each.views.catch_up(log[-1].position)
        assert len(each.views.seats.taken) == SEATS


async def test_a_folder_is_granted_once_under_racing_creates(desks: tuple[Desk, Desk]) -> None:
    """Two processes at once, each as far as it has read: the seats' version decides, though there are seats left."""
    for name in ("one", "two", "three"):
        outcomes = await asyncio.gather(
            *(desks[n % 2].handler.handle(opening(f"ses_{short()}", name), ORIGIN) for n in range(8)),
            return_exceptions=True,
        )
        refused = [outcome.slug for outcome in outcomes if isinstance(outcome, Refused)]
        assert refused == ["host-dir-in-use"] * 7
    assert len(desks[0].views.seats.taken) == 3


async def test_only_one_of_two_sessions_is_resumed_on_their_folder(desks: tuple[Desk, Desk]) -> None:
    ended = []
    for _ in range(2):
        session_id = f"ses_{short()}"
        generation = (await desks[0].handler.handle(opening(session_id, "one"), ORIGIN)).state.generation
        await desks[0].handler.handle(StopSession(session_id=session_id), ORIGIN)
        await desks[0].handler.handle(MarkStopped(session_id=session_id, generation=generation), ORIGIN)
        ended.append(session_id)
    outcomes = await asyncio.gather(
        *(desks[n].handler.handle(resuming(ended[n]), ORIGIN) for n in range(2)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Handled", "Refused"]


async def test_data_is_given_up_or_the_session_is_resumed(desks: tuple[Desk, Desk]) -> None:
    """Never both: a session would run on volumes that are being removed."""
    for n in range(6):
        session_id = f"ses_{short()}"
        await desks[0].ended(session_id)
        await desks[1].views.catch_up_to_head()
        removal = desks[n % 2].handler.handle(RemoveData(session_id=session_id, reason="policy"), ORIGIN)
        resume = desks[1 - n % 2].handler.handle(resuming(session_id), ORIGIN)
        order = (removal, resume) if n < 3 else (resume, removal)
        await asyncio.gather(*order, return_exceptions=True)
        await desks[0].views.catch_up_to_head()
        state = desks[0].views.sessions[session_id]
        assert (state.phase is Phase.STOPPED) == (state.volumes == ()), state
        if state.phase is not Phase.STOPPED:
            await desks[0].handler.handle(StopSession(session_id=session_id), ORIGIN)
            await desks[0].handler.handle(MarkStopped(session_id=session_id, generation=2), ORIGIN)


async def test_a_seat_that_comes_free_elsewhere_is_taken_at_once(desks: tuple[Desk, Desk]) -> None:
    """Before it refuses, a process looks at the head of the log."""
    sessions = [(await desks[0].open()).state for _ in range(SEATS)]
    failing = MarkFailed(session_id=sessions[0].session_id, generation=1, reason="not_ready", detail="")
    await desks[0].handler.handle(failing, ORIGIN)
    assert (await desks[1].open()).changed


async def test_conflicts_are_retried(desks: tuple[Desk, Desk]) -> None:
    """Every look at the token moves the stream that all of them write to."""
    opened = (await desks[0].open()).state
    looks = [desks[n % 2].handler.handle(RevealToken(session_id=opened.session_id), ORIGIN) for n in range(10)]
    assert all(handled.changed for handled in await asyncio.gather(*looks))
    log = await desks[0].store.read_log(types=["token.revealed"])
    assert [event.version for event in log] == list(range(3, 13))


async def test_a_repeat_through_two_gateways_is_one_session(desks: tuple[Desk, Desk]) -> None:
    """With the same idempotency key: one unit, one seat, and one container in every answer."""
    session_id = f"ses_{short()}"
    origin = msgspec.structs.replace(ORIGIN, repeat=named("open-session", "k1", session_id))
    handled = await asyncio.gather(*(desks[n % 2].open(session_id, origin) for n in range(10)))
    assert len({each.state.container for each in handled}) == 1
    assert [each.changed for each in handled].count(True) == 1
    log = await desks[0].store.read_log(limit=100)
    assert [event.type for event in log] == ["session.requested", "token.issued", "admission.granted"]


async def test_only_one_of_two_resumes_begins_a_generation(desks: tuple[Desk, Desk]) -> None:
    session_id = f"ses_{short()}"
    await desks[0].ended(session_id)
    outcomes = await asyncio.gather(
        *(desks[n].handler.handle(resuming(session_id, f"g{n}"), ORIGIN) for n in range(2)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Handled", "Refused"]
    state = fold(Sessions(), {}, await desks[0].store.read_log(limit=100))[session_id]
    assert (state.generation, state.anomalies) == (2, 0)


async def test_a_stop_is_not_lost_on_a_process_that_is_behind() -> None:
    """There the session looks stopped already, but another process has resumed it."""
    store = MemoryEventStore()
    async with desk(store) as ahead:
        session_id = f"ses_{short()}"
        stopped = await ahead.ended(session_id)
        behind = Desk(store)
        await behind.views.load()
        await ahead.handler.handle(resuming(session_id), ORIGIN)
        assert behind.views.sessions[session_id].phase is Phase.STOPPED
        following = asyncio.create_task(behind.views.run())
        handled = await behind.handler.handle(StopSession(session_id=session_id), ORIGIN)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert handled.changed and (handled.position or 0) > (stopped.position or 0)
        assert handled.state.phase is Phase.STOPPING


async def test_a_unit_is_a_chain_of_causes(one: Desk) -> None:
    """The first event is caused by what the command says, the others by the first; all by one request."""
    session_id = (await one.open()).state.session_id
    first, *others = await one.store.read_log()
    assert first.causation_id == CAUSE.causation_id
    assert [event.causation_id for event in others] == [first.event_id] * 2
    log = [first, *others]
    assert {(event.correlation_id, event.trace_id) for event in log} == {(CAUSE.correlation_id, CAUSE.trace_id)}
    assert len({event.recorded_at for event in log}) == 1
    assert [event.stream_id for event in log] == [session_stream(session_id)] * 2 + ["admission"]


async def test_an_answer_is_already_seen(one: Desk) -> None:
    """The views hold what the command came to, and the position is where."""
    handled = await one.open()
    assert one.views.sessions[handled.state.session_id] == handled.state
    assert handled.position == handled.state.position + 1 <= one.views.position  # the grant is the unit's last
    again = await one.open(handled.state.session_id)
    assert (again.changed, again.state, again.position) == (False, handled.state, handled.state.position)


async def test_a_refusal_is_told_although_the_log_is_busy(one: Desk) -> None:
    """Newer events lift a refusal, but not each of them is worth another look."""
    busy = asyncio.Event()

    async def write_on() -> None:
        who = Who(kind=ActorKind.GATEWAY, id="g1")
        while True:
            await one.recorder.fact(SYSTEM, payload(AccessDenied), who=who)
            busy.set()
            await asyncio.sleep(0)

    writing = asyncio.create_task(write_on())
    try:
        await busy.wait()
        looks = one.views.head_looks
        error = await refusal(one.handler.handle(StopSession(session_id="ses_unknown"), ORIGIN))
        assert error.slug == "session-unknown"
        assert one.views.head_looks - looks == 1
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_a_flood_of_refusals_shares_its_looks(one: Desk) -> None:
    """A full gateway answers 200 refusals with a few looks at the log: they do not queue for one each."""
    for _ in range(SEATS):
        await one.open()
    looks = one.views.head_looks
    outcomes = await asyncio.gather(*(one.open() for _ in range(200)), return_exceptions=True)
    assert all(isinstance(outcome, Refused) for outcome in outcomes)
    assert one.views.head_looks - looks <= 3


async def test_only_full_seats_are_told_as_a_denial(one: Desk) -> None:
    error = await refusal(one.handler.handle(StopSession(session_id="ses_unknown"), ORIGIN))
    assert (error.slug, error.status) == ("session-unknown", 404)
    assert await one.store.read_log() == []


async def test_a_log_that_is_away_is_the_callers_to_wait_for() -> None:
    """Nothing was done; the caller may ask again."""

    async def away(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name == "append":
            raise StoreUnavailable("the log is away")
        return await call()

    store = MemoryEventStore()
    async with desk(store, through=away) as made:
        with pytest.raises(StoreUnavailable):
            await made.open()
    assert await store.read_log() == []


async def test_an_outcome_that_cannot_be_is_a_fault() -> None:
    """No command is fenced: a store that says so is not believed to have written."""

    async def fenced(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return Fenced("job") if name == "append" else await call()

    async with desk(MemoryEventStore(), through=fenced) as made:
        with pytest.raises(NotAppended):
            await made.open()


async def test_events_of_a_later_release_do_not_block_a_session(one: Desk) -> None:
    """A release that was rolled back left some in the stream: they are passed over, and the next command goes on."""
    await one.open("ses_a")
    future = raw(type="session.teleported", schema_version=1, payload=b"{}")
    await one.store.append(StreamWrite(session_stream("ses_a"), ANY, (future, raw(type="session.teleported"))))
    stopped = await one.handler.handle(StopSession(session_id="ses_a"), ORIGIN)
    assert (stopped.changed, stopped.state.phase) == (True, Phase.STOPPING)


async def test_a_command_that_always_conflicts_gives_up() -> None:
    """Said as such, with when to come again."""

    async with desk(MemoryEventStore()) as made:
        made.handler._views = cast(Views, Forgetful(made.views))
        await made.open("ses_a")
        error = await refusal(made.open("ses_b"))
    assert (error.slug, error.retry_after) == ("store-unavailable", 1)


class Forgetful:
    """Views that never see the seats move."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self.seats = views.seats

    def __getattr__(self, name: str) -> Any:
        return getattr(self._views, name)

    async def catch_up_to_head(self) -> bool:
        return True
