"""The life of a process: what it says first and last, the key it leaves, and that nothing of it is left."""

import asyncio
import contextlib
import logging
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import pytest_asyncio

from events.catalogue import Payload, SessionStopped, SubjectErased
from events.envelope import ANY, KEYS, SYSTEM, ActorKind, RecordedEvent, StreamWrite, session_stream
from events.errors import StoreUnavailable
from events.ids import uuid7
from events.keyring import MemoryKeyring
from events.lease import MemoryLeases
from events.memory import MemoryEventStore
from events.schema import Applied
from gateway import lifespan
from gateway.access.keys import proved, revoked
from gateway.lifespan import NOT_SEPARATED, OPERATOR_KEY_FILE, running
from gateway.proxy.exchange_records import Exchange
from gateway.proxy.result import EndedBy, ExchangeResult
from gateway.recorder import Who
from gateway.runtime import Runtime, RuntimeRefused
from gateway.settings import Settings, load
from gateway.storage import Report, Storage
from gateway.workers.reconcile import INSTANCE_LEASE, LEASE
from projections.lifecycle import Phase
from tests.factories import CAUSE, event, payload
from tests.gateway.world import Mortal, World, eventually, world
from tests.gateway_fixtures import BASE, WAIT, memory_log, placed, start_gateway

TEST = Who(kind=ActorKind.OPERATOR, id="test")


@pytest_asyncio.fixture
async def earth(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def proxied(session_id: str, container: str) -> tuple[Exchange, ExchangeResult]:
    """An exchange that was answered, and how."""
    exchange = Exchange(
        exchange_id=uuid7(),
        session_id=session_id,
        container=container,
        owner_key=None,
        kind="http",
        method="GET",
        path="/",
        client=None,
        who=Who(kind=ActorKind.SESSION, id=session_id),
        cause=CAUSE,
    )
    return exchange, ExchangeResult(status=200, ended_by=EndedBy.CONTAINER, reason="complete")


async def test_the_start_is_its_first_event_and_the_end_its_last(earth: World) -> None:
    """Between them everything that the process did; what was proxied in its last moment is before the end too."""
    async with earth.gateway() as gateway:
        state = await gateway.open()
        for _ in range(300):
            gateway.services.exchanges.ended(*proxied(state.session_id, state.container), 200, was_opened=False)
    types = [event.type for event in await earth.log()]
    assert (types[0], types[-1]) == ("gateway.started", "gateway.stopped")
    assert types.count("exchange.completed") == 300
    (stopped,) = await earth.payloads("gateway.stopped")
    assert (stopped.instance, stopped.reason) == (gateway.instance, "signal")


async def test_containers_that_outlive_us_are_left_running(earth: World) -> None:
    """The next gateway adopts them at once: both leases were given back, and nobody is told as crashed."""
    async with earth.gateway() as gateway:
        state = await gateway.open()
    assert await earth.containers() == [state.container]
    assert await earth.leases.alive(INSTANCE_LEASE) == frozenset()
    assert await earth.leases.claim(LEASE + "mock", "somebody") is not None
    await earth.leases.release(LEASE + "mock", "somebody")
    async with earth.gateway() as successor:
        await eventually(lambda: successor.views.sessions[state.session_id].instance == successor.instance)
    assert await earth.log("gateway.crashed") == []


async def test_an_end_by_an_error_is_told_as_such(earth: World) -> None:
    with pytest.raises(ValueError, match="a fault"):
        async with earth.gateway():
            raise ValueError("a fault")
    (stopped,) = await earth.payloads("gateway.stopped")
    assert stopped.reason == "failed"


async def test_an_end_while_the_log_is_away_is_bounded(
    earth: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be written is counted and said, in a line; the next start finds out the rest."""
    monkeypatch.setattr(lifespan, "FLUSH_SECONDS", 0.1)
    away = False

    async def outage(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if away and name in ("append", "claim", "release", "head", "read_log", "read_stream"):
            raise StoreUnavailable("the log is away")
        return await call()

    with caplog.at_level(logging.ERROR, "session_gateway.lifespan"):
        async with earth.gateway(through=outage) as gateway:
            state = await gateway.open()
            away = True
            gateway.services.exchanges.ended(*proxied(state.session_id, state.container), 200, was_opened=False)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "1 exchange records could not be written and are lost",
        "the end of this gateway could not be written: the log is away",
    ]


async def test_an_end_waits_only_for_sessions_that_could_be_told(
    earth: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither log nor room in a spool: a stop that is written nowhere is not carried out, so nobody can wait for it."""
    away = False

    async def outage(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if away and name in ("append", "release", "head", "read_log", "read_stream"):
            raise StoreUnavailable("the log is away")
        return await call()

    docker = Mortal(address_of=lambda name: earth.agents.address)
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(earth.gateway(through=outage, docker=docker))
        await gateway.open()
        away = True
        async with asyncio.timeout(lifespan.FLUSH_SECONDS / 2):
            await stack.aclose()
    assert "could not be told to stop: the log is away" in caplog.text
    assert "had not stopped in time" not in caplog.text


async def test_what_an_end_stops_is_told_as_one_doing(earth: World) -> None:
    """No request asked for it: the stops name the end that they have in common, and lead to all that followed."""
    async with earth.gateway(docker=Mortal(address_of=lambda name: earth.agents.address)) as gateway:
        for _ in range(2):
            await gateway.open()
    stops, ends = await earth.log("session.stop_requested"), await earth.log("session.stopped")
    assert len(stops) == len(ends) == 2
    (correlation,) = {event.correlation_id for event in (*stops, *ends)}
    assert correlation is not None and correlation not in {e.correlation_id for e in await earth.log("session.ready")}
    assert {event.causation_id for event in ends} == {event.event_id for event in stops}


async def test_nothing_is_left_of_a_process_that_ended(tmp_path: Path) -> None:
    """No task, thread or child, with a whole server and real local sessions, one of them still booting."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    children = set(psutil.Process().children(recursive=True))
    async with start_gateway(tmp_path) as gateway:
        await gateway.open()
        await gateway.client.post("/sessions")
        assert len(set(psutil.Process().children(recursive=True)) - children) >= 1
    await eventually(lambda: asyncio.all_tasks() <= tasks, 2)
    assert set(psutil.Process().children(recursive=True)) <= children
    late = [thread for thread in set(threading.enumerate()) - threads if not thread.name.startswith("asyncio_")]
    assert late == []


async def test_local_sessions_are_resumed_after_a_restart(tmp_path: Path) -> None:
    """Stopped as if asked, because their gateway stopped; on the same data directory the agent finds its talk."""
    store = MemoryEventStore()
    storage = Storage(
        store=store,
        keyring=MemoryKeyring(),
        leases=MemoryLeases(store),
        label="memory",
        schema=Applied((), False),
    )

    @contextlib.asynccontextmanager
    async def kept(settings: Settings, report: Report) -> AsyncIterator[Storage]:
        yield storage

    async with start_gateway(tmp_path, log_of=kept, keep=True) as gateway:
        session = await gateway.open()
        made = await gateway.client.post(session.path("session"), json={"title": "t"}, headers=session.headers)
    async with start_gateway(tmp_path, log_of=kept) as gateway:
        state = gateway.services.views.sessions[session.session_id]
        assert (state.phase, state.reason) == (Phase.STOPPED, "gateway_stopped")
        answer = await gateway.client.post(f"/sessions/{session.session_id}/resume", headers=WAIT)
        assert answer.status_code == 201, answer.text
        bearer = {"authorization": f"Bearer {answer.json()['token']}"}
        listed = await gateway.client.get(session.path("session"), headers=bearer)
        assert [each["id"] for each in listed.json()] == [made.json()["id"]]


async def operator_key(earth: World) -> str:
    return (earth.data_dir / OPERATOR_KEY_FILE).read_text().strip()


async def test_the_operators_key_is_made_once(earth: World) -> None:
    """In a file for its owner alone; a second start finds that it works."""
    async with earth.gateway() as gateway:
        key = await operator_key(earth)
        known = proved(key, gateway.views)
        assert known is not None and (known.role, known.name) == ("operator", "operator")
    assert stat.S_IMODE((earth.data_dir / OPERATOR_KEY_FILE).stat().st_mode) == 0o600
    async with earth.gateway():
        assert await operator_key(earth) == key
    (created,) = await earth.log("api_key.created")
    assert created.causation_id == (await earth.log("gateway.started"))[0].event_id


@pytest.mark.parametrize("how", ["revoked", "deleted", "damaged", "of another log"])
async def test_an_operators_key_that_opens_nothing_is_made_again(earth: World, how: str) -> None:
    file = earth.data_dir / OPERATOR_KEY_FILE
    async with earth.gateway() as gateway:
        key = await operator_key(earth)
        known = proved(key, gateway.views)
        assert known is not None
        if how == "revoked":
            await gateway.services.recorder.fact(KEYS, revoked(known.key_id), who=TEST)
    if how == "deleted":
        file.unlink()
    if how == "damaged":
        file.write_text(key[:-1] + "!\n")
    if how == "of another log":
        earth.store = MemoryEventStore()
    async with earth.gateway() as gateway:
        fresh = await operator_key(earth)
        assert fresh != key
        known = proved(fresh, gateway.views)
        assert known is not None and known.revoked_at is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_runtime_that_is_refused_leaves_nothing_open(tmp_path: Path) -> None:
    """The log was open already, and no gateway is said to have started."""
    store = MemoryEventStore()
    closed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def log_of(settings: Settings, report: Report) -> AsyncIterator[Storage]:
        try:
            yield Storage(
                store=store,
                keyring=MemoryKeyring(),
                leases=MemoryLeases(store),
                label="memory",
                schema=Applied((), False),
            )
        finally:
            closed.set()

    def refused(settings: Settings, storage: Storage, report: Report) -> AbstractAsyncContextManager[Runtime]:
        raise RuntimeRefused("no such runtime")

    with pytest.raises(RuntimeRefused):
        async with running(
            load({"GATEWAY_DATA_DIR": str(tmp_path)}), lambda _: None, log_of=log_of, runtime_of=refused
        ):
            pass
    assert closed.is_set() and await store.read_log() == []


async def test_a_start_that_fails_half_way_is_told_and_unwound(earth: World) -> None:
    """A key file that cannot be written: the process has started, and says that it ended."""
    (earth.data_dir / OPERATOR_KEY_FILE).mkdir()
    with pytest.raises(OSError):
        async with earth.gateway():
            pass
    types = [event.type for event in await earth.log()]
    assert (types[0], types[-1]) == ("gateway.started", "gateway.stopped")
    assert await earth.leases.alive(INSTANCE_LEASE) == frozenset()


async def test_keys_that_another_process_destroyed_are_forgotten(earth: World) -> None:
    """Cached copies would open what was erased (row C7)."""
    async with earth.gateway() as gateway:
        key = await earth.keyring.key_for("ada")
        erased = payload(SubjectErased, key_ids=(key.id,))
        await gateway.views.catch_up(await placed(gateway.services.recorder.fact(SYSTEM, erased, who=TEST)))
        assert await earth.keyring.keys([key.id]) == {}


async def test_a_stop_asked_of_another_gateway_reaches_a_boot(earth: World) -> None:
    """The one that carries the session follows the log: it gives the boot up without waiting for a comparison."""
    earth.agents.healthy = False
    async with earth.gateway() as one, earth.gateway() as two:
        session_id = await one.begin()
        await two.views.catch_up(one.views.position)
        await two.stop(session_id)
        await one.reaches(session_id, Phase.STOPPED, seconds=1.5)
        assert not two.services.runner.busy(session_id)


async def test_seats_and_sessions_are_known_before_the_first_request(earth: World) -> None:
    """A process that served before it had read the log would give seats away twice."""
    async with earth.gateway() as former:
        state = await former.open()
    async with earth.gateway() as gateway:
        assert gateway.views.seats.taken == {state.session_id: 1}
        assert gateway.views.sessions[state.session_id].phase is Phase.READY


async def test_a_job_that_died_is_told_at_once(tmp_path: Path) -> None:
    """A view that cannot follow the log would be served for ever: the process ends, and says which job and why."""
    settings, died = load({**BASE, "SESSION_RUNTIME": "mock", "GATEWAY_DATA_DIR": str(tmp_path)}), asyncio.Event()
    async with running(settings, lambda _: None, log_of=memory_log, on_death=died.set) as process:
        assert process.notes == (NOT_SEPARATED,)  # a log in memory has no roles

        def at_fault(event: RecordedEvent, payload: Payload) -> None:
            if isinstance(payload, SessionStopped):
                raise LookupError("a fault of ours")

        process.services.views.on_event(at_fault)
        await process.services.store.append(StreamWrite(session_stream("s1"), ANY, (event(),)))
        async with asyncio.timeout(10):
            await died.wait()
        (told,) = process.jobs.dead
        assert told.startswith("The job views ended: a fault of ours")


async def test_a_database_of_a_later_release_is_told(tmp_path: Path) -> None:
    """An operator who started the older one by mistake reads it on the screen."""
    settings = load({**BASE, "SESSION_RUNTIME": "mock", "GATEWAY_DATA_DIR": str(tmp_path)})

    @asynccontextmanager
    async def later(settings: Settings, report: Report) -> AsyncIterator[Storage]:
        async with memory_log(settings, report) as storage:
            yield msgspec.structs.replace(storage, schema=Applied((), rights_separated=True, newer="9.0.0"))

    async with running(settings, lambda _: None, log_of=later) as process:
        (note,) = process.notes
        assert note.startswith("THE DATABASE IS OF RELEASE 9.0.0")
