"""Streams of server-sent events: in order, whole, each event once, however often a reader is cut off."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from events.catalogue import LogRead, TokenRevealed
from events.envelope import SYSTEM, ActorKind, session_stream
from events.errors import StoreUnavailable
from events.sealing import SubjectKey
from gateway.access.caller import Caller
from gateway.access.roles import Role
from gateway.api import stream as streams
from gateway.api.call import Call
from gateway.recorder import Who
from projections.listener import LISTENER_QUEUE
from tests.event_fixtures import until
from tests.gateway.clients import Frame, stream
from tests.gateway.faulty import FaultyStore, faulty, faulty_log, spooling_log
from tests.gateway.world import eventually
from tests.gateway_fixtures import WHY, Gateway, placed, start_gateway

WHO = Who(kind=ActorKind.OPERATOR, id="test")
STEPS = ("session.*", "container.*", "token.*")


async def tell(gateway: Gateway, times: int = 1) -> int:
    """Write facts that belong to no session; the position of the last."""
    position = 0
    for _ in range(times):
        position = await placed(gateway.services.recorder.fact(SYSTEM, LogRead(what="test"), who=WHO))
    return position


async def reveal(gateway: Gateway, session_id: str, times: int = 1) -> int:
    """Write steps of a session; the position of the last, which the view holds by then."""
    position = 0
    for _ in range(times):
        step = TokenRevealed(session_id=session_id, serial=1)
        position = await placed(gateway.services.recorder.fact(session_stream(session_id), step, who=WHO))
    await gateway.services.views.catch_up(position)
    return position


async def take(frames: AsyncIterator[Frame], count: int) -> list[Frame]:
    """The next events that have data."""
    found: list[Frame] = []
    while len(found) < count:
        each = await anext(frames)
        if each.data is not None:
            found.append(each)
    return found


@asynccontextmanager
async def writing(gateway: Gateway, session_id: str) -> AsyncIterator[None]:
    """Somebody who writes all the while: steps of a session, and facts of others between them."""

    async def write() -> None:
        while True:
            await reveal(gateway, session_id)
            await tell(gateway)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def asked(gateway: Gateway, path: str, query: str = "", **path_params: str) -> Call:
    """A call that reached its handler, and whose answer is not read yet."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [],
        "path_params": path_params,
    }
    caller = Caller(key_id="k", name="test", role=Role.OPERATOR)
    return Call(request=Request(scope), services=gateway.services, caller_or_none=caller)


async def test_progress_tells_every_step_from_the_first(gateway: Gateway) -> None:
    """What a frontend shows while it waits; the same again for who comes late."""
    session = await gateway.open({"owner": "ada-owner"})
    async with stream(gateway, f"/sessions/{session.session_id}/progress") as frames:
        told = await take(frames, 5)
    assert [each.event for each in told] == [
        "session.requested",
        "token.issued",
        "container.created",
        "container.started",
        "session.ready",
    ]
    assert [each.json["position"] for each in told] == [each.position for each in told]
    text = "".join(each.data or "" for each in told)
    for secret in ("ada-owner", session.token, "sha256", "127.0.0.1", "secret_id"):
        assert secret not in text, secret


async def test_progress_goes_on_behind_the_last_id(gateway: Gateway) -> None:
    session = await gateway.open()
    path = f"/sessions/{session.session_id}/progress"
    async with stream(gateway, path) as frames:
        whole = await take(frames, 5)
    for given in ({"last-event-id": whole[2].id or ""}, {}):
        query = "" if given else f"?after={whole[2].id}"
        async with stream(gateway, path + query, headers=given) as frames:
            assert await take(frames, 2) == whole[3:]


async def test_progress_is_whole_however_often_it_is_cut(gateway: Gateway) -> None:
    """Dropped in mid-stream again and again while steps are written: no gap, no double."""
    session = await gateway.open()
    path, got = f"/sessions/{session.session_id}/progress", list[int]()
    async with writing(gateway, session.session_id):
        last: dict[str, str] = {}
        for count in (1, 7, 2, 19, 3, 11, 1, 30):
            async with stream(gateway, path, headers=last) as frames:
                told = await take(frames, count)
            got += [each.position for each in told]
            last = {"last-event-id": str(got[-1])}
    steps = [event.position for event in await gateway.log(*STEPS) if event.position <= got[-1]]
    assert got == steps


async def test_the_log_is_whole_however_often_it_is_cut(gateway: Gateway) -> None:
    """Positions have no gaps, so each one must come, and once."""
    session = await gateway.open()
    got: list[int] = []
    async with writing(gateway, session.session_id):
        last: dict[str, str] = {"last-event-id": "0"}
        for count in (3, 1, 40, 2, 25, 60):
            async with stream(gateway, "/events/stream", headers=last) as frames:
                got += [each.position for each in await take(frames, count)]
            last = {"last-event-id": str(got[-1])}
    assert got == list(range(1, len(got) + 1))


async def test_own_sessions_are_whole_however_often_they_are_cut(gateway: Gateway) -> None:
    first, second = await gateway.open(), await gateway.open()
    got: list[int] = []
    async with writing(gateway, first.session_id), writing(gateway, second.session_id):
        last = {"last-event-id": "0"}
        for count in (12, 1, 25, 8):
            async with stream(gateway, "/sessions/stream", headers=last) as frames:
                got += [each.position for each in await take(frames, count)]
            last = {"last-event-id": str(got[-1])}
    assert got == [event.position for event in await gateway.log(*STEPS) if event.position <= got[-1]]


async def test_a_reader_that_is_cut_before_its_first_event_misses_nothing(gateway: Gateway) -> None:
    """A stream from now on names its now at once; without an id, "now" would be another one after the drop."""
    session = await gateway.open()
    for path in ("/sessions/stream", "/events/stream?type=token.*"):
        async with stream(gateway, path) as frames:
            opening = await anext(frames)
        assert opening == Frame(opening.id, None, None)
        await reveal(gateway, session.session_id, 3)
        async with stream(gateway, path, headers={"last-event-id": opening.id or ""}) as frames:
            assert [each.event for each in await take(frames, 3)] == ["token.revealed"] * 3


async def test_what_happens_before_the_first_byte_is_read_is_told(gateway: Gateway) -> None:
    """Between the handler's answer and its first frame the log moves on: a step, a whole new session."""
    session = await gateway.open()
    start = gateway.services.views.position
    own = await streams.own_sessions(asked(gateway, "/sessions/stream", f"after={start}"))
    one = await streams.progress(asked(gateway, "/", f"after={start}", session_id=session.session_id))
    assert isinstance(own, StreamingResponse) and isinstance(one, StreamingResponse)
    steps = [await reveal(gateway, session.session_id, 2)]
    steps.insert(0, steps[0] - 1)
    opened = await gateway.open()
    of_new = [event.position for event in await gateway.log(*STEPS) if opened.session_id.encode() in event.payload]
    assert await _positions(own, 2 + len(of_new)) == [*steps, *of_new]
    assert await _positions(one, 2) == steps


async def _positions(response: StreamingResponse, count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(5):
        async for piece in response.body_iterator:
            assert isinstance(piece, bytes)
            if b"\ndata: " in piece:
                found.append(int(piece.split(b"\n")[0].removeprefix(b"id: ")))
            if len(found) == count:
                break
    await response.body_iterator.aclose()  # type: ignore[attr-defined]  # a generator
    return found


async def test_a_long_history_is_told_whole(gateway: Gateway) -> None:
    """More steps than a page of the store holds."""
    session = await gateway.open()
    last = await reveal(gateway, session.session_id, 1100)
    response = await streams.progress(asked(gateway, "/", session_id=session.session_id))
    assert isinstance(response, StreamingResponse)
    assert (await _positions(response, 1105))[-1] == last


async def test_a_reader_that_is_too_slow_is_ended_and_goes_on_by_id(gateway: Gateway) -> None:
    """Memory is bounded: past LISTENER_QUEUE events the stream ends; what was told has no gap."""
    session = await gateway.open()
    after = gateway.services.views.position
    response = await streams.own_sessions(asked(gateway, "/sessions/stream"))
    assert isinstance(response, StreamingResponse)
    frames = response.body_iterator.__aiter__()
    assert await anext(frames) == b"id: %d\n\n" % after
    reading = asyncio.ensure_future(anext(frames))
    await until(lambda: _listens(gateway))
    first = await reveal(gateway, session.session_id)
    got = [await reading]
    await reveal(gateway, session.session_id, LISTENER_QUEUE + 200)
    async with asyncio.timeout(5):
        got += [piece async for piece in frames]
    told = [int(bytes(piece).split(b"\n")[0].removeprefix(b"id: ")) for piece in got if isinstance(piece, bytes)]
    assert told == list(range(first, first + len(told)))
    async with stream(gateway, "/sessions/stream", headers={"last-event-id": str(told[-1])}) as again:
        assert [each.position for each in await take(again, 2)] == [told[-1] + 1, told[-1] + 2]


async def _listens(gateway: Gateway) -> bool:
    return bool(gateway.services.views._listeners)


async def test_a_reader_that_leaves_is_forgotten(gateway: Gateway) -> None:
    session = await gateway.open()
    async with (
        stream(gateway, "/sessions/stream") as own,
        stream(gateway, f"/sessions/{session.session_id}/progress") as one,
    ):
        await anext(own)
        await anext(one)
        assert len(gateway.services.views._listeners) == 2

    async def nobody_listens() -> bool:
        return not gateway.services.views._listeners

    await until(nobody_listens)


async def test_a_position_of_another_log_is_refused(gateway: Gateway) -> None:
    """Waited for in silence, everything up to it would be missed."""
    session = await gateway.open()
    beyond = str((await gateway.services.store.head()).position + 100)
    for path in ("/events/stream", "/sessions/stream", f"/sessions/{session.session_id}/progress"):
        answer = await gateway.client.get(path, headers={"last-event-id": beyond})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), path
        assert beyond in answer.json()["detail"]


async def test_a_reader_that_names_its_event_goes_on_only_where_the_log_has_it(gateway: Gateway) -> None:
    """After a restore a position alone passes for any event: the reader would never learn what it is missing."""
    session = await gateway.open()
    await reveal(gateway, session.session_id, 2)
    (last, before) = [event for event in await gateway.log("token.revealed")][::-1]
    for path in ("/events/stream", "/sessions/stream", f"/sessions/{session.session_id}/progress"):
        async with stream(gateway, f"{path}?after={before.position}-{before.event_id}") as frames:
            (told,) = await take(frames, 1)
            assert (told.position, told.event) == (last.position, "token.revealed")
        for position in (before.position, last.position - 2, 0):
            answer = await gateway.client.get(path, headers={"last-event-id": f"{position}-{last.event_id}"})
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), path
            assert f"At position {position} the log does not hold the event" in answer.json()["detail"]


async def test_an_id_that_is_no_position_is_refused(gateway: Gateway) -> None:
    for given in ("-1", "x", "1.5", "\u0661", "9" * 19, "1 2", "1-", "1-x", "1-00000000", f"1-{'0' * 36}"):
        for path in ("/events/stream", "/sessions/stream"):
            answer = await gateway.client.get(path, params={"after": given})
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), given


async def test_a_stream_goes_on_when_the_log_is_back(tmp_path: Path) -> None:
    """The tail is the views': they wait for the log, and so do those who follow."""
    async with start_gateway(tmp_path, log_of=faulty_log) as gateway:
        store = gateway.services.store
        assert isinstance(store, FaultyStore)
        async with stream(gateway, "/events/stream?type=log.read") as frames:
            await take(frames, 1)
            store.away = True
            await eventually(lambda: store.refused > 0)
            store.away = False
            told = await tell(gateway)
            assert [each.position for each in await take(frames, 1)] == [told]


async def test_a_stream_ends_in_order_when_nothing_can_be_opened(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a fault and not half an answer: the reader comes back with its last id."""

    async def away(ids: Iterable[str]) -> dict[str, SubjectKey]:
        raise StoreUnavailable("keys cannot be reached")

    async with stream(gateway, "/events/stream?type=session.*") as frames:
        await anext(frames)
        with monkeypatch.context() as patch:
            patch.setattr(gateway.services.keyring, "keys", away)
            session = await gateway.open()
            assert [each async for each in frames] == []
    last = gateway.services.views.position
    async with stream(gateway, "/events/stream?type=session.*", headers={"last-event-id": "0"}) as frames:
        told = await take(frames, 2)
    assert [each.json["stream_id"] for each in told] == [session_stream(session.session_id)] * 2
    assert told[-1].position <= last


async def test_a_stream_that_cannot_begin_is_refused_and_not_told_as_read(tmp_path: Path) -> None:
    """200 with nothing behind it would pass for a session that did nothing; nor has anybody read anything.

    Also for a reader that has all there was: when there is more, this process does not know.
    """
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        session = await gateway.open()
        auditor = await gateway.key(Role.AUDITOR)
        progress = f"/sessions/{session.session_id}/progress"
        position = gateway.services.views.position
        store = gateway.services.store
        faulty(store).away = True
        await eventually(lambda: not store.status.available)
        for path in ("/events/stream", f"/events/stream?after={position}", progress, f"{progress}?after={position}"):
            answer = await gateway.client.get(path, headers=auditor | WHY)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        faulty(store).away = False
        await eventually(lambda: store.status.available)
        assert await gateway.log("log.read") == []


async def test_a_frontend_is_told_of_its_own_sessions_alone(gateway: Gateway) -> None:
    mine, theirs = await gateway.key(Role.FRONTEND, "mine"), await gateway.key(Role.FRONTEND, "theirs")
    async with stream(gateway, "/sessions/stream", headers=mine) as live:
        await anext(live)
        await gateway.open(headers=theirs)
        session = await gateway.open(headers=mine)
        told = await take(live, 5)
    async with stream(gateway, "/sessions/stream?after=0", headers=mine) as later:
        again = await take(later, 5)
    assert told == again
    assert {each.json["session_id"] for each in told} == {session.session_id}


async def test_following_is_one_read_and_does_not_follow_itself(gateway: Gateway) -> None:
    """The start of it is an event; if each page were one, a follower of everything would never come to rest."""
    auditor = await gateway.key(Role.AUDITOR)
    start = (await gateway.services.store.head()).position
    async with stream(gateway, "/events/stream?type=log.read&type=token.*", headers=auditor) as frames:
        (own,) = await take(frames, 1)
        session = await gateway.open()
        await reveal(gateway, session.session_id, 2)
        steps = await take(frames, 3)
    told = {name: value for name, value in own.json["payload"].items() if value is not None}
    assert told == {"type": "log.read", "what": "follow", "after": start, "types": ["log.read", "token.*"]}
    assert own.json["actor"]["key_id"] is not None
    assert [each.event for each in steps] == ["token.issued", "token.revealed", "token.revealed"]
    assert len(await gateway.log("log.read")) == 1
