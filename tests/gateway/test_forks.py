"""A log that forked under a gateway, or while none ran: nothing is served from it until a person has decided."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from events.errors import LogForked
from events.keyring import MemoryKeyring
from events.lease import MemoryLeases
from events.mark import Mark, Marks
from events.memory import MemoryEventStore
from events.schema import Applied
from gateway import forks
from gateway.forks import BadMarkFile, MarkKeeper
from gateway.lifespan import running
from gateway.settings import Settings, load
from gateway.storage import Report, Storage
from projections.views import Views
from tests.event_fixtures import until
from tests.factories import events, new_stream, recorded, write
from tests.forks import Swapped, restored
from tests.gateway_fixtures import BASE, Gateway, Session, start_gateway

SECONDS = 10.0


def log_of(
    store: MemoryEventStore | Swapped,
) -> Callable[[Settings, Report], contextlib.AbstractAsyncContextManager[Storage]]:
    """A log that outlives the gateways on it."""

    @contextlib.asynccontextmanager
    async def opened(settings: Settings, report: Report) -> AsyncIterator[Storage]:
        behind = store.behind if isinstance(store, Swapped) else store
        assert isinstance(behind, MemoryEventStore)
        yield Storage(
            store=store.store if isinstance(store, Swapped) else store,
            keyring=MemoryKeyring(),
            leases=MemoryLeases(behind),
            label="memory",
            schema=Applied((), False),
        )

    return opened


async def fork(gateway: Gateway, swapped: Swapped) -> int:
    """Replace the log by an older backup that others have written to since; the first position that differs."""
    store = swapped.behind
    assert isinstance(store, MemoryEventStore)
    position = gateway.services.views.position
    swapped.behind = now = restored(store, position - 2)
    await now.append(write(new_stream(), *events(7)))

    async def known() -> bool:
        return gateway.services.views.forked is not None

    await until(known)
    return position - 1


def problem(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"]


@contextlib.asynccontextmanager
async def gateway_on(swapped: Swapped, data_dir: Path) -> AsyncIterator[tuple[Gateway, Session]]:
    async with start_gateway(data_dir, log_of=log_of(swapped), keep=True) as gateway:
        yield gateway, await gateway.open()


async def test_everything_is_refused_once_the_log_has_forked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Commands, readings and proxied requests; what tells of it still answers, and one line says where."""
    swapped = Swapped(MemoryEventStore())
    async with gateway_on(swapped, tmp_path) as (gateway, session):
        client, refused = gateway.client, (503, "/problems/log-forked")
        assert (await client.get(session.path("session"), headers=session.headers)).status_code == 200
        with caplog.at_level(logging.CRITICAL):
            differs = await fork(gateway, swapped)
            await until(lambda: _no_task("reconcile"))
        assert problem(await client.get(session.path("session"), headers=session.headers)) == refused
        assert problem(await client.post("/sessions")) == refused
        assert problem(await client.get("/sessions")) == refused
        assert problem(await client.get("/events")) == refused
        assert problem(await client.get("/readyz")) == refused
        assert (await client.get("/livez")).json() == {"status": "alive"}
        health = (await client.get("/health")).json()
        assert (health["status"], health["log"]["forked_at"]) == ("forked", differs)
        said = [record for record in caplog.records if record.levelno == logging.CRITICAL]
        assert [f"forked at position {differs}:" in record.getMessage() for record in said] == [True]


async def _no_task(name: str) -> bool:
    return name not in {task.get_name() for task in asyncio.all_tasks()}


async def test_streams_end_when_the_log_forks(tmp_path: Path) -> None:
    """They would wait for ever for events of a log that is not there."""
    swapped = Swapped(MemoryEventStore())
    async with gateway_on(swapped, tmp_path) as (gateway, session):
        streams = [
            await _stream(gateway, f"/sessions/{session.session_id}/progress", {}),
            await _stream(gateway, session.path("event"), session.headers),
        ]
        await fork(gateway, swapped)
        async with asyncio.timeout(SECONDS):
            for stream in streams:
                assert (await stream.aread()).endswith(b"retry: 1000\n\n")


async def _stream(gateway: Gateway, path: str, headers: dict[str, str]) -> httpx.Response:
    request = gateway.client.build_request("GET", path, headers=headers)
    opened = await gateway.client.send(request, stream=True)
    assert opened.status_code == 200
    return opened


async def test_a_gateway_does_not_start_on_a_log_that_lost_what_was_seen(tmp_path: Path) -> None:
    """The backup was restored while none ran. The sentence says where, and what to do."""
    store = MemoryEventStore()
    async with start_gateway(tmp_path, log_of=log_of(store), keep=True) as gateway:
        await gateway.services.store.append(write(new_stream()))
    assert (marks := forks.read(tmp_path)) is not None and marks.position == (await store.head()).position
    now = restored(store, 2)
    await now.append(write(new_stream(), *events(20)))
    with pytest.raises(LogForked, match=r"forked at position 3: .*`python -m gateway log accept`") as caught:
        async with start_gateway(tmp_path, log_of=log_of(now), keep=True):
            pass
    assert (caught.value.same_until, caught.value.differs_from) == (2, 3)
    async with start_gateway(tmp_path, log_of=log_of(store)):
        pass  # the log that has them was brought back


async def test_a_gateway_that_saw_the_fork_leaves_what_it_had_seen_to_the_next(tmp_path: Path) -> None:
    """Else a restart alone would do away with the question."""
    swapped = Swapped(MemoryEventStore())
    async with gateway_on(swapped, tmp_path) as (gateway, _):
        await MarkKeeper(tmp_path, gateway.services.views).save()
        await fork(gateway, swapped)
    with pytest.raises(LogForked):
        async with start_gateway(tmp_path, log_of=log_of(swapped)):
            pass


async def test_another_log_is_told_and_not_refused(tmp_path: Path) -> None:
    """The settings name another database: that may well be meant."""
    former = MemoryEventStore()
    await former.append(write(new_stream()))
    forks.write(tmp_path, Marks(former.log_id, map(Mark.of, former.ledger.log)))
    store = MemoryEventStore()
    settings = load({**BASE, "SESSION_RUNTIME": "mock", "GATEWAY_DATA_DIR": str(tmp_path)})
    async with running(settings, lambda _: None, log_of=log_of(store)) as process:
        (note,) = [note for note in process.notes if note.startswith("ANOTHER LOG")]
    assert str(former.log_id) in note and str(store.log_id) in note
    assert (marks := forks.read(tmp_path)) is not None and marks.log_id == store.log_id


def test_the_file_holds_what_is_needed_and_no_more(tmp_path: Path) -> None:
    """The end of what was seen in full, some of what was before: it is written every few seconds."""
    seen = Marks(recorded().log_id, (Mark.of(recorded(position=position)) for position in range(1, 3001)))
    forks.write(tmp_path, seen)
    kept = forks.read(tmp_path)
    assert kept is not None and (kept.log_id, kept.last) == (seen.log_id, seen.last)
    assert len(kept) <= 2 * forks.KEEP and (tmp_path / forks.MARK_FILE).stat().st_size < 60_000
    assert [path.name for path in tmp_path.iterdir()] == [forks.MARK_FILE]


def test_a_file_that_holds_something_else_is_told(tmp_path: Path) -> None:
    assert forks.read(tmp_path) is None
    (tmp_path / forks.MARK_FILE).write_text('{"log_id": "x"}')
    with pytest.raises(BadMarkFile, match="restore it, or remove it"):
        forks.read(tmp_path)


async def test_nothing_is_written_when_nothing_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryEventStore()
    views = Views(store)
    keeper = MarkKeeper(tmp_path, views)
    await keeper.save()
    assert forks.read(tmp_path) is None
    await store.append(write(new_stream()))
    await views.load()
    await keeper.save()
    writes: list[Any] = []
    monkeypatch.setattr(forks, "write", lambda *arguments: writes.append(arguments))
    await keeper.save()
    assert writes == []


async def test_a_last_place_that_cannot_be_kept_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The process ends all the same."""
    store = MemoryEventStore()
    await store.append(write(new_stream()))
    views = Views(store)
    await views.load()
    await MarkKeeper(tmp_path / "gone", views).save_last()
    assert "could not be kept" in caplog.text
