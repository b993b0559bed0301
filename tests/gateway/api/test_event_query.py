"""What a reader asks of the log: every filter, every way to say where to begin, and what is refused by name."""

from typing import Any
from uuid import UUID

import pytest

import events.filter
from events.envelope import Sealed, container_stream, session_stream
from events.filter import EventFilter
from gateway.access.roles import Role
from gateway.api import cursor as cursors
from gateway.names import MAX_TYPES
from tests.gateway.clients import nobody
from tests.gateway_fixtures import WHY, Gateway


async def found(gateway: Gateway, **query: Any) -> list[int]:
    answer = await gateway.client.get("/events", params={"limit": 1000, **query}, headers=WHY)
    assert answer.status_code == 200, answer.text
    assert answer.json()["complete"]
    return [event["position"] for event in answer.json()["events"]]


async def refused(gateway: Gateway, path: str = "/events", **query: Any) -> tuple[str, str]:
    answer = await gateway.client.get(path, params=query, headers=WHY)
    assert answer.status_code == 400, (query, answer.text)
    return answer.json()["type"].removeprefix("/problems/"), answer.json()["detail"]


async def test_each_filter_finds_what_it_says_and_nothing_else(gateway: Gateway) -> None:
    frontend = await gateway.key(Role.FRONTEND, "chat")
    one, other = await gateway.open(headers=frontend), await gateway.open()
    log = await gateway.log()
    requested = next(event for event in log if event.stream_id == session_stream(one.session_id))
    trace, correlation = requested.trace_id or b"", str(requested.correlation_id)
    of_trace = [event.position for event in log if event.trace_id == trace]
    assert of_trace and await found(gateway, trace=trace.hex()) == of_trace
    assert await found(gateway, trace=trace.hex().upper()) == of_trace
    of_request = [event.position for event in log if event.correlation_id == requested.correlation_id]
    for text in (correlation, correlation.upper(), correlation.replace("-", "")):
        assert await found(gateway, correlation=text) == of_request
    of_session = await found(gateway, session=one.session_id, until=log[-1].position)
    assert of_session == [event.position for event in log if one.session_id in f"{event.stream_id}{event.payload!r}"]
    key_id = next(iter(gateway.services.views.sessions.values())).opened_by
    by_key = [event.position for event in log if f'"key_id":"{key_id}"'.encode() in event.actor]
    assert by_key and await found(gateway, actor=key_id) == by_key
    by_gateway = await found(gateway, actor=f"gateway:{gateway.services.instance}", type="session.*")
    assert len(by_gateway) == 2
    assert await found(gateway, session=other.session_id, actor=key_id) == []


async def test_parts_of_a_log_by_time_meet_without_gap_or_double(gateway: Gateway) -> None:
    """``until`` takes what was recorded by then, ``since`` what came later: as ``as_of`` and what happened after it."""
    await gateway.open()
    log = await gateway.log()
    for event in log:
        moment = event.recorded_at.isoformat()
        before, after = await found(gateway, until=moment), await found(gateway, since=moment, until=log[-1].position)
        assert before + after == [each.position for each in log]
        assert event.position in before
    told = (await gateway.client.get("/events", params={"since": log[3].recorded_at.isoformat(), "until": 5})).json()
    assert (told["after"], told["until"]) == ((await gateway.services.store.position_at(log[3].recorded_at)), 5)


async def test_a_position_may_name_its_event(gateway: Gateway) -> None:
    """Then a restored log refuses it."""
    await gateway.open()
    log = await gateway.log()
    assert (await found(gateway, after=f"3-{log[2].event_id}"))[0] == 4
    assert "does not hold the event" in (await refused(gateway, after=f"3-{log[3].event_id}"))[1]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ({"session": ""}, "session"),
        ({"session": "a b"}, "session"),
        ({"actor": ""}, "actor"),
        ({"actor": "key:"}, "actor"),
        ({"actor": "person:ada"}, "actor"),
        ({"actor": "a b"}, "actor"),
        ({"trace": "abc"}, "trace"),
        ({"trace": "g" * 32}, "trace"),
        ({"correlation": "7"}, "correlation"),
        ({"correlation": "{00000000-0000-0000-0000-000000000007}"}, "correlation"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-18T22:29:04"}, "since"),
        ({"since": "999999"}, "999999"),
        ({"until": "soon"}, "until"),
        ({"after": 1, "since": 1}, "after or since"),
        ({"after": [1, 2]}, "after"),
        ({"session": ["ses_1", "ses_2"]}, "session"),
        ({"sesion": "ses_1"}, "sesion"),
        ({"as_of": 3}, "as_of"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(gateway: Gateway, query: dict[str, Any], name: str) -> None:
    """A filter that is misspelt and passed over would show too much."""
    for path in ("/events", "/events/stream"):
        if "until" not in query:
            slug, detail = await refused(gateway, path, **query)
            assert slug == "bad-request" and name in detail
    assert (await refused(gateway, **query))[0] == "bad-request"
    assert await gateway.log("log.read") == []


async def test_a_cursor_brings_its_filter_and_takes_no_other(gateway: Gateway) -> None:
    await gateway.open()
    first = (await gateway.client.get("/events", params={"type": "session.*", "limit": 1, "until": 1000})).json()
    assert not first["complete"]
    for beside in ({}, {"type": "session.*"}):
        rest = (await gateway.client.get("/events", params={"cursor": first["cursor"], **beside})).json()
        assert [event["type"] for event in rest["events"]] == ["session.ready"]
        assert (rest["complete"], rest["cursor"]) == (True, None), "an end was asked for, and reached"
    for query in ({"type": "token.*"}, {"type": "session.*", "actor": "key:operator"}):
        assert (await refused(gateway, cursor=first["cursor"], **query))[0] == "bad-cursor"
    for name in ("after", "since", "until"):
        assert (await refused(gateway, "/events", cursor=first["cursor"], **{name: 3}))[0] == "bad-request"
    assert (await refused(gateway, cursor=first["cursor"][:-1]))[0] == "bad-cursor"
    assert "cannot be followed" in (await refused(gateway, "/events/stream", cursor=first["cursor"]))[1]


async def test_what_may_be_one_persons_is_not_found_by_another_way_without_a_purpose(gateway: Gateway) -> None:
    """An actor, a trace and a request are narrower than a session: each of them is one's, or part of it."""
    session = await gateway.open({"owner": "ada"})
    (state,) = gateway.services.views.sessions.values()
    (requested,) = await gateway.log("session.requested")
    trace, correlation = (requested.trace_id or b"").hex(), str(requested.correlation_id)
    actors = (f"session:{session.session_id}", f"container:{state.container}")
    ways: list[dict[str, Any]] = [
        *({"actor": actor} for actor in (*actors, state.opened_by, f"gateway:{gateway.services.instance}")),
        {"trace": trace},
        {"correlation": correlation, "type": "session.requested", "limit": 1},
    ]
    for query in ways:
        for path in ("/events", "/events/stream"):
            answer = await gateway.client.get(
                path, params={k: v for k, v in query.items() if (path, k) != ("/events/stream", "limit")}
            )
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/purpose-required"), query
    assert await gateway.log("log.read") == []
    for query in ways:
        answer = await gateway.client.get("/events", params=query, headers=WHY)
        assert answer.status_code == 200, answer.text
    told = await gateway.payloads("log.read")
    assert [read.session_id for read in told] == [session.session_id] * 2 + [session.session_id] * 4
    assert all(isinstance(read.purpose, Sealed) for read in told)


async def test_two_sessions_at_once_and_what_nobody_knows_are_refused(gateway: Gateway) -> None:
    """Told as a reading of the one that was named first; or with a purpose in clear, since it is nobody's."""
    one, other = await gateway.open(), await gateway.open()
    container = gateway.services.views.sessions[other.session_id].container or ""
    for beside in (
        {"stream": session_stream(other.session_id)},
        {"stream": container_stream(container)},
        {"actor": f"session:{other.session_id}"},
    ):
        slug, detail = await refused(gateway, session=one.session_id, **beside)
        assert slug == "bad-request" and one.session_id in detail and other.session_id in detail
    assert await found(gateway, session=other.session_id, stream=container_stream(container))
    assert await found(gateway, session=one.session_id, stream="system") == []
    for path in ("/events", "/events/stream"):
        for query in (
            {"session": "ses_nobody"},
            {"stream": "session-ses_nobody"},
            {"stream": "container-nobody"},
            {"actor": "session:ses_nobody"},
        ):
            answer = await gateway.client.get(path, params=query, headers=WHY)
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/session-unknown"), query
            assert "nobody" in answer.json()["detail"]
    assert b"a test" not in b"".join(event.payload for event in await gateway.log("log.read"))


async def test_a_session_that_only_refusals_name_has_a_purpose_that_nobody_opens(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.open()
    async with nobody(gateway) as client:
        assert (await client.get("/sessions/ses_0123456789abcdefghjkmnpqrs")).status_code == 401
    monkeypatch.setattr(events.filter, "SCAN", 3)  # one search alone does not come as far
    assert len(await found(gateway, session="ses_0123456789abcdefghjkmnpqrs")) == 1
    (read,) = await gateway.payloads("log.read")
    assert isinstance(read.purpose, Sealed)
    assert await gateway.services.keyring.keys([read.purpose.k]) == {}


async def test_types_are_asked_for_once_each_and_not_without_end(gateway: Gateway) -> None:
    """A page whose cursor would be refused, for its length, must not be given out."""
    page = await gateway.client.get("/events", params={"type": ["session.ready"] * 500 + ["gateway.*"], "limit": 1})
    assert page.status_code == 200
    again = await gateway.client.get("/events", params={"cursor": page.json()["cursor"]})
    assert again.status_code == 200, again.text
    assert [read.types for read in await gateway.payloads("log.read")] == [("session.ready", "gateway.*")] * 2
    many = [f"{'x' * 50}.{'y' * 40}_{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(MAX_TYPES + 1)]
    assert "40 of them at most" in (await refused(gateway, type=many))[1]
    page = await gateway.client.get("/events", params={"type": many[:MAX_TYPES], "limit": 1})
    again = await gateway.client.get("/events", params={"cursor": page.json()["cursor"]})
    assert (page.status_code, again.status_code) == (200, 200), again.text


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(stream_id="session-a\0b"),
        EventFilter(session_id="a b"),
        EventFilter(actor="person:ada"),
        EventFilter(causation_id=UUID(int=1)),
        EventFilter(types=("session",)),
        EventFilter(trace_id=b"x"),
    ],
)
async def test_a_cursor_passes_by_no_check(gateway: Gateway, wanted: EventFilter) -> None:
    """Even one of ours: whatever a filter may not be in the query, it may not be in a cursor."""
    services = gateway.services
    text = await cursors.at(services.tokens, services.store, 2, of="events", wanted=wanted)
    for path in ("/events", "/events/stream"):
        assert (await refused(gateway, path, cursor=text))[0] in ("bad-cursor", "bad-request")
    assert await gateway.log("log.read") == []


async def test_one_session_is_read_by_its_id_its_stream_or_its_containers(gateway: Gateway) -> None:
    """Whichever way it is asked for, its reader says why, and the log names the session."""
    session = await gateway.open()
    (state,) = gateway.services.views.sessions.values()
    streams = [session_stream(session.session_id), container_stream(state.container)]
    for query in ({"session": session.session_id}, *({"stream": stream} for stream in streams)):
        for path in ("/events", "/events/stream"):
            answer = await gateway.client.get(path, params=query)
            assert (answer.status_code, answer.json()["type"]) == (400, "/problems/purpose-required")
        assert await found(gateway, **query)
    told = await gateway.payloads("log.read")
    assert [(read.session_id, read.stream) for read in told] == [
        (session.session_id, stream) for stream in (None, *streams)
    ]
