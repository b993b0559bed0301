"""Who follows is in the history of what did not exist when they began; and an end is told, however it came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.catalogue import ApiKeyRevoked, LogRead
from events.codec import Cause, decode
from events.envelope import KEYS, SYSTEM, ActorKind, RecordedEvent
from events.ids import uuid7
from events.lease import MemoryLeases
from events.memory import MemoryEventStore
from gateway.access.roles import Role
from gateway.api import access_history
from gateway.api import reads as reads_of_api
from gateway.api.access_history import Subject
from gateway.api.follows import KINDS, Follow
from gateway.recorder import Who
from gateway.settings import Settings
from gateway.storage import Report, Storage
from tests.event_fixtures import until
from tests.gateway.api.test_stream import asked
from tests.gateway.clients import stream
from tests.gateway.faulty import faulty, spooling_log
from tests.gateway.world import eventually
from tests.gateway_fixtures import WHY, Gateway, Session, memory_log, placed, start_gateway

WHO = Who(kind=ActorKind.OPERATOR, id="test")


async def reads(gateway: Gateway, session: Session) -> list[tuple[str, str, int | None]]:
    """What the history says of who read: what, by whom, until when."""
    answer = await gateway.client.get(f"/sessions/{session.session_id}/access-history", headers=WHY)
    page = answer.json()
    assert (answer.status_code, page["complete"]) == (200, True), answer.text
    told = [read for read in page["reads"] if read["what"] != "access_history"]
    return [(read["what"], read["reader"]["id"], read["until"]) for read in told]


async def ended(gateway: Gateway, count: int = 1) -> list[tuple[RecordedEvent, Any]]:
    """The ends of followings, when there are as many."""

    async def told() -> list[tuple[RecordedEvent, Any]]:
        pairs = [(event, decode(event)) for event in await gateway.log("log.read")]
        return [
            (event, read)
            for event, read in pairs
            if isinstance(read, LogRead) and read.what in KINDS and read.until is not None
        ]

    async def are_told() -> bool:
        return len(await told()) >= count

    await until(are_told)
    return await told()


@pytest.mark.parametrize(("path", "what"), [("/events/stream", "follow"), ("/sessions/stream", "all_progress")])
@pytest.mark.parametrize("role", [Role.AUDITOR, Role.OPERATOR])
async def test_who_followed_before_a_session_began_is_in_its_history(
    gateway: Gateway, path: str, what: str, role: Role
) -> None:
    """Every step of it was delivered to them; who had left by then has seen nothing."""
    early, late = await gateway.key(role, "early"), await gateway.key(role, "late")
    async with stream(gateway, path, headers=early) as frames:
        await anext(frames)
    ((end, read),) = await ended(gateway)
    (begun, _) = await gateway.log("log.read")
    assert (read.what, read.after, read.until, end.causation_id) == (what, read.after, read.until, begun.event_id)
    assert read.after is not None and read.until >= read.after and end.correlation_id == begun.correlation_id
    async with stream(gateway, path, headers=late) as frames:
        await anext(frames)
        session = await gateway.open({"owner": "dora"})
        steps = [each async for each in _until_ready(frames)]
        assert "session.requested" in steps
        assert await reads(gateway, session) == [(what, "late", None)]
    (_, (_, read)) = await ended(gateway, 2)
    assert await reads(gateway, session) == [(what, "late", None), (what, "late", read.until)]
    ready = [event.position for event in await gateway.log("session.ready")]
    assert read.until >= ready[-1], "all that was sent lies before the end that is told"
    later = await gateway.open()
    assert await reads(gateway, later) == []


async def _until_ready(frames: Any) -> Any:
    async for each in frames:
        if each.event is not None:
            yield each.event
        if each.event == "session.ready":
            return


async def test_following_one_session_has_an_end_and_a_frontend_leaves_nothing(gateway: Gateway) -> None:
    mine, auditor = await gateway.key(Role.FRONTEND, "mine"), await gateway.key(Role.AUDITOR, "eve")
    session = await gateway.open({"owner": "ada"}, headers=mine)
    path = f"/sessions/{session.session_id}/progress?after=3"
    for headers in (mine, {}, auditor | WHY):
        async with stream(gateway, path, headers=headers) as frames:
            await anext(frames)
    async with stream(gateway, "/sessions/stream", headers=mine) as frames:
        await anext(frames)
    ((end, read),) = await ended(gateway)
    begun, told = (await gateway.log("log.read"))[0], (await gateway.payloads("log.read"))[0]
    assert (told.what, told.after, told.session_id) == ("progress", 3, session.session_id)
    assert (read.after, read.session_id, read.purpose, end.causation_id) == (3, told.session_id, None, begun.event_id)


async def test_a_revoked_key_is_an_end(gateway: Gateway) -> None:
    auditor = await gateway.key(Role.AUDITOR, "eve")
    async with stream(gateway, "/events/stream?type=session.*", headers=auditor) as frames:
        await anext(frames)
        (key_id,) = [key.key_id for key in gateway.services.views.api_keys.values() if key.name == "eve"]
        revoked = ApiKeyRevoked(key_id=key_id)
        await gateway.services.views.catch_up(await placed(gateway.services.recorder.fact(KEYS, revoked, who=WHO)))
        await gateway.open()
        assert [each.event async for each in frames if each.event is not None] == []
    ((end, read),) = await ended(gateway)
    assert (read.types, b'"id":"eve"' in end.actor) == (("session.*",), True)


async def test_a_drain_is_an_end_and_is_in_the_log_before_it_closes(tmp_path: Path) -> None:
    store = MemoryEventStore()

    @asynccontextmanager
    async def kept(settings: Settings, report: Report) -> AsyncIterator[Storage]:
        async with memory_log(settings, report) as storage:
            yield msgspec.structs.replace(storage, store=store, leases=MemoryLeases(store))

    async with AsyncExitStack() as reader, start_gateway(tmp_path, log_of=kept) as gateway:
        frames = await reader.enter_async_context(stream(gateway, "/events/stream"))
        await anext(frames)
    begun, end = await store.read_log(types=("log.read",))
    assert end.causation_id == begun.event_id


async def test_an_end_while_the_log_is_away_waits_in_the_spool(tmp_path: Path) -> None:
    """The drain, or the reader, does not wait for Postgres."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        store = gateway.services.store
        async with stream(gateway, "/events/stream") as frames:
            await anext(frames)
            faulty(store).away = True
            await eventually(lambda: not store.status.available)
        await eventually(lambda: store.status.spooled_bytes > 0)
        assert await gateway.services.follow_ends.flush(5)
        faulty(store).away = False
        await eventually(lambda: store.status.available)
        ((end, _),) = await ended(gateway)
        assert end.causation_id == (await gateway.log("log.read"))[0].event_id


async def test_a_beginning_that_may_be_told_is_ended(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader left while it was on its way into the log: else a following would be open for ever."""
    tell = reads_of_api.tell

    async def left(*given: Any, **named: Any) -> None:
        await tell(*given, **named)
        raise asyncio.CancelledError

    monkeypatch.setattr(reads_of_api, "tell", left)
    call = asked(gateway, "/events/stream")
    follow = Follow(call, LogRead(what="follow", after=2))
    with pytest.raises(asyncio.CancelledError):
        await follow.begin()
    ((end, read),) = await ended(gateway)
    follow.end()
    assert await gateway.services.follow_ends.flush(5)
    assert [event.event_id for event in await gateway.log("log.read")] == [end.causation_id, end.event_id]
    assert (read.after, read.until) == (2, 2)


async def test_head_reads_nothing_and_leaves_nothing(gateway: Gateway) -> None:
    session, auditor = await gateway.open(), await gateway.key(Role.AUDITOR)
    one = f"/sessions/{session.session_id}/progress"
    for path in ("/events", f"/events?session={session.session_id}", "/events/stream", "/sessions/stream", one):
        answer = await gateway.client.head(path, headers=auditor | WHY)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert (await gateway.client.head("/events?limit=0", headers=auditor)).status_code == 400
    assert await gateway.services.follow_ends.flush(5)
    assert await gateway.log("log.read") == []


async def test_a_following_whose_end_is_not_known_is_open_however_far_back(gateway: Gateway) -> None:
    """A crash leaves none. Ends are found in the same page of the log, and in a later one."""
    recorder, starts = gateway.services.recorder, [uuid7() for _ in range(3)]
    for start in starts:
        await placed(recorder.fact(SYSTEM, LogRead(what="follow", after=0), who=WHO, event_id=start))
    for start in (starts[0], starts[2]):
        end = LogRead(what="follow", after=0, until=3)
        await placed(recorder.fact(SYSTEM, end, who=WHO, cause=Cause(causation_id=start)))
    session = await gateway.open()
    store = gateway.services.store
    assert isinstance(store, MemoryEventStore)
    begun = next(event.position for event in await gateway.log("session.requested"))
    subject = Subject(session_id=session.session_id, streams=frozenset(), begun=begun)
    for page in (1, 2, 500):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(access_history, "PAGE", page)
            found, _ = await access_history.search(store, subject, 0, begun, 100)
        assert [event.event_id for event, _ in found] == [starts[1]], page
