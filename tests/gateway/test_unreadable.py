"""An event that nobody can read: the service goes on, and whoever reads the log is told of it once."""

from pathlib import Path

import pytest

from events.catalogue import AlertRaised
from events.envelope import SYSTEM, RecordedEvent
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from events.store import EventStore
from gateway import unreadable
from gateway.cli import event_lines
from gateway.recorder import Recorder
from gateway.storage import open_storage
from gateway.unreadable import NAME, Unreadables
from projections.projection import fold
from projections.session_state import Sessions
from tests.event_fixtures import LogDatabase, until
from tests.factories import event, raw, write
from tests.gateway_fixtures import WHY, start_gateway

DEEP = b'{"session_id":"a","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"


async def broken(store: EventStore, payload: bytes = b"{}", actor: bytes = b"\xc3\xa9\\") -> RecordedEvent:
    """An event that no release writes, in the log."""
    await store.append(write("session-a", raw(type="session.ready", payload=payload, actor=actor)))
    return (await store.read_stream("session-a"))[-1]


async def alerts(store: EventStore) -> list[RecordedEvent]:
    return [one for one in await store.read_stream(SYSTEM) if one.type == "alert.raised"]


async def told(store: EventStore) -> list[object]:
    return [one.causation_id for one in await alerts(store)]


@pytest.mark.parametrize("payload", [b"{}", DEEP, b"\x00\xc3\xa9"], ids=["fields", "deep", "bytes"])
async def test_a_gateway_goes_on_and_tells_of_it(tmp_path: Path, payload: bytes) -> None:
    async with start_gateway(tmp_path) as gateway:
        store = gateway.services.store
        before = await gateway.open()
        found = await broken(store, payload)
        after = await gateway.open()
        assert {before.session_id, after.session_id} <= gateway.services.views.sessions.keys()
        await until(lambda: _count(store, 1))
        [alert] = await alerts(store)
        assert alert.causation_id == found.event_id and str(found.position).encode() in alert.payload
        health = (await gateway.client.get("/health")).json()
        assert health["status"] == "healthy" and health["log"]["unreadable"] == 1
        page = (await gateway.client.get(f"/events?after={found.position - 1}", headers=WHY)).json()["events"]
        assert page[0]["unreadable"] and page[1]["unreadable"] is None, "the others of the page are shown as ever"
        raw_shown = page[0]["payload"]["raw"]
        assert raw_shown.encode().decode("unicode_escape").encode("latin-1") == payload
        assert page[0]["actor"] == {"kind": "unreadable", "id": "\\xc3\\xa9\\\\", "on_behalf_of": None}
        assert "CANNOT BE READ" in event_lines.told(page[0]) and len(event_lines.told(page[0])) < 300
        assert any(line.startswith("UNREADABLE") for line in event_lines.page(page[0]))


async def _count(store: EventStore, wanted: int) -> bool:
    return len(await alerts(store)) == wanted


async def test_each_is_told_once_by_whoever_comes_upon_it() -> None:
    """Two processes, and one that comes later and finds it told."""
    store = MemoryEventStore()
    recorder = Recorder(store, MemoryKeyring())
    one, other = Unreadables(recorder, "g1"), Unreadables(recorder, "g2")
    found = [await broken(store), await broken(store)]
    for process in (one, other):
        for each in (*found, *found):
            process.passed(each)
        await process.run_once()
        await process.run_once()
    await other.tell(found[0])
    assert await told(store) == [each.event_id for each in found]
    later = Unreadables(recorder, "g3")
    await later.run_once()
    assert (one.count, other.count, later.count) == (2, 2, 2)
    third = await broken(store)
    await later.tell(third)
    assert await told(store) == [each.event_id for each in (*found, third)] and later.count == 3


async def test_a_log_that_is_broken_as_a_whole_is_not_doubled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(unreadable, "MOST", 2)
    store = MemoryEventStore()
    process = Unreadables(Recorder(store, MemoryKeyring()), "g1")
    found = [await broken(store) for _ in range(4)]
    for one in (*found, *found):  # the views pass over each, and the projector after them
        process.passed(one)
    await process.run_once()
    assert len(await alerts(store)) == 2 and process.count == 4
    assert len(caplog.records) == 4 and "it has no alert" in caplog.text


async def test_another_alert_is_not_counted() -> None:
    store = MemoryEventStore()
    await store.append(write(SYSTEM, event(AlertRaised, name="log_away"), event(AlertRaised, name=NAME)))
    process = Unreadables(Recorder(store, MemoryKeyring()), "g1")
    await process.run_once()
    assert process.count == 1


@pytest.mark.postgres
async def test_tables_and_the_next_start_pass_over_it_too(tmp_path: Path, empty_log: LogDatabase) -> None:
    settings = {"DATABASE_URL": empty_log.app_dsn, "DB_ADMIN_URL": empty_log.admin_dsn}
    async with start_gateway(tmp_path, settings, log_of=open_storage, keep=True) as gateway:
        store = gateway.services.store
        await broken(store, DEEP)
        session = await gateway.open()
        await until(lambda: _count(store, 1))
        projector = gateway.services.projector
        assert projector is not None
        head = (await store.head()).position
        await until(lambda: _reached(projector.positions, head))
    async with start_gateway(tmp_path, settings, log_of=open_storage) as again:
        store = again.services.store
        assert session.session_id in again.services.views.sessions
        await until(lambda: _known(again.services.unreadables))
        assert len(await alerts(store)) == 1
        log = await store.read_log(limit=1000)
        assert fold(Sessions(), {}, log).keys() == again.services.views.sessions.keys()


async def _reached(positions: object, head: int) -> bool:
    assert hasattr(positions, "values")
    return min(positions.values(), default=0) >= head


async def _known(process: Unreadables) -> bool:
    return process.count == 1
