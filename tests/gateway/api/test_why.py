"""Why, over HTTP: an event, a session, a request and a trace as a tree, each reading recorded."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

import pytest

from events.catalogue import ExchangeCompleted
from events.codec import Cause
from events.envelope import ANY, StreamWrite, container_stream, session_stream
from gateway import context
from gateway.access.roles import Role
from gateway.api.turn import WAITING
from projections import related
from tests.factories import SEALED
from tests.factories import event as made
from tests.gateway.clients import nobody
from tests.gateway_fixtures import Gateway, Session

PURPOSE: Final = {"x-audit-purpose": "complaint 4711"}
MINE: Final = "a-request-of-mine"


async def why(gateway: Gateway, path: str, **headers: str) -> dict[str, Any]:
    answer = await gateway.client.get(path, headers={**PURPOSE, **headers})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = list(tree["roots"])
    while waiting:
        node = waiting.pop(0)
        yield node
        waiting += node["children"]


def types(found: list[dict[str, Any]]) -> list[str]:
    return [node["event"]["type"] for node in found]


async def used(gateway: Gateway) -> tuple[Session, str]:
    """A session through which one request was proxied, and that request's id."""
    session = await gateway.open({"owner": "ada"})
    async with nobody(gateway) as client:
        answer = await client.get(session.path("echo/here"), headers=session.headers | {"x-request-id": MINE})
    assert answer.headers["x-request-id"] == MINE
    assert await gateway.services.exchanges.flush(5)
    return session, MINE


async def test_an_event_is_led_back_to_the_request_that_all_began_with(gateway: Gateway) -> None:
    session, _ = await used(gateway)
    (ready,) = await gateway.log("session.ready")
    tree = await why(gateway, f"/events/{ready.event_id}/why")
    assert tree["asked"] == {"kind": "event", "id": str(ready.event_id)}
    assert tree["sessions"] == [session.session_id]
    (root,) = tree["roots"]
    assert (root["event"]["type"], root["link"], root["asked"]) == ("session.requested", "root", False)
    assert root["event"]["actor"]["on_behalf_of"] == "ada", "the person is told to those who may ask"
    assert set(types(root["children"])) >= {
        "token.issued",
        "admission.granted",
        "container.created",
        "container.started",
        "session.ready",
    }
    (asked,) = [node for node in nodes(tree) if node["asked"]]
    assert asked["event"]["type"] == "session.ready"
    assert root["lasted_us"] == asked["since_cause_us"] > 0, "the opening lasted until the session was ready"
    assert root["ended_by"] == ready.position
    assert tree["trace_ids"][0] == root["event"]["trace_id"]
    assert tree["cut"] is None


async def test_a_position_names_the_same_event(gateway: Gateway) -> None:
    await gateway.open()
    (ready,) = await gateway.log("session.ready")
    by_id = await why(gateway, f"/events/{ready.event_id}/why")
    by_position = await why(gateway, f"/events/{ready.position}/why")
    assert {**by_id, "position": 0} == {**by_position, "position": 0}


async def test_a_request_is_told_with_the_token_that_it_showed_and_how_that_came_to_be(gateway: Gateway) -> None:
    _, request_id = await used(gateway)
    tree = await why(gateway, f"/why?of={request_id}")
    assert tree["asked"] == {"kind": "request", "id": request_id}
    (root,) = tree["roots"]
    (token,) = root["children"]
    (exchange,) = token["children"]
    assert types([root, token, exchange]) == ["session.requested", "token.issued", "exchange.completed"]
    assert exchange["lasted_us"] == exchange["event"]["payload"]["duration_us"]
    assert exchange["event"]["payload"]["path"] == "/echo/here"
    trace_id = exchange["event"]["trace_id"]
    by_trace = await why(gateway, f"/why?of=trace:{trace_id}")
    assert by_trace["asked"] == {"kind": "trace", "id": trace_id}
    assert by_trace["roots"] == tree["roots"]


async def test_a_session_is_every_event_about_it(gateway: Gateway) -> None:
    """Each once: its own stream, its containers, its seat, its exchanges; each request of its own is a root."""
    session, _ = await used(gateway)
    await gateway.stop(session)
    log = await gateway.log()
    tree = await why(gateway, f"/why?of={session.session_id}")
    told = [node["event"]["position"] for node in nodes(tree)]
    assert sorted(told) == [each.position for each in log if session.session_id.encode() in each.payload]
    assert types(tree["roots"]) == ["session.requested", "session.stop_requested"]
    opening, stop = tree["roots"]
    assert types(stop["children"]) == ["token.revoked", "container.removed", "session.stopped"]
    assert types(stop["children"][-1]["children"]) == ["admission.released"]
    assert stop["lasted_us"] > 0 and stop["reason"] == "asked"
    assert tree["events"] == len(told)
    assert opening["event"]["position"] < stop["event"]["position"]


async def test_the_end_of_a_session_stands_beside_its_beginning(gateway: Gateway) -> None:
    """A stop is a request of its own: nothing that happened before made it happen, and the tree does not say so."""
    session, _ = await used(gateway)
    await gateway.stop(session)
    (stopped,) = await gateway.log("session.stopped")
    tree = await why(gateway, f"/events/{stopped.event_id}/why")
    assert types(tree["roots"]) == ["session.requested", "session.stop_requested"]
    assert tree["roots"][0]["children"] == []


async def test_thousands_of_exchanges_are_one_line_until_all_are_asked_for(gateway: Gateway) -> None:
    session = await gateway.open()
    (token,) = await gateway.log("token.issued")
    container = gateway.services.views.sessions[session.session_id].container
    for _ in range(50):
        batch = tuple(
            made(
                ExchangeCompleted,
                session_id=session.session_id,
                container=container,
                path=SEALED,
                client=None,
                cause=Cause(causation_id=token.event_id, correlation_id=UUID(int=number + 1)),
            )
            for number in range(100)
        )
        await gateway.services.store.append(StreamWrite(container_stream(container), ANY, batch))
    tree = await why(gateway, f"/why?of={session.session_id}")
    (issued,) = [node for node in nodes(tree) if node["event"]["type"] == "token.issued"]
    (group,) = issued["more"]
    assert (group["type"], group["count"], group["events"]) == ("exchange.completed", 5000, 5000)
    assert len(list(nodes(tree))) + 5000 == tree["events"]
    assert len(json.dumps(tree)) < 40_000, "a page"
    told, after = list[int](), 0
    for most in (2000, 4000, None):
        everything = await why(gateway, f"/why?of={session.session_id}&all=true&after={after}")
        (whole,) = [node for node in nodes(everything) if node["event"]["type"] == "token.issued"]
        assert whole["more"] == [] and len(whole["children"]) <= 2000
        told += [node["event"]["position"] for node in nodes(everything) if node["event"]["position"] > after]
        assert most is None or (everything["cut"]["reason"], everything["cut"]["unsearched"]) == ("shown", 0)
        after = everything["cut"]["reached"] if everything["cut"] else after
        assert most is None or len(told) == most
    assert everything["cut"] is None
    told = [position for position in told if position <= tree["position"]]  # each reading is one more
    assert len(told) == len(set(told)) == tree["events"], "each, once, over the pages"


async def test_one_reader_is_served_at_a_time_and_who_is_too_many_is_told_so(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of ten thousand events is dear: whoever asks for many at once holds up nobody but himself."""
    session = await gateway.open()
    gate, within, most = asyncio.Event(), 0, 0
    plain = related.of

    async def held(*given: Any, **named: Any) -> related.Related:
        nonlocal within, most
        within += 1
        most = max(most, within)
        await gate.wait()
        within -= 1
        return await plain(*given, **named)

    monkeypatch.setattr(related, "of", held)
    path = f"/why?of=session:{session.session_id}&all=true"
    asking = [asyncio.create_task(gateway.client.get(path, headers=PURPOSE)) for _ in range(12)]
    while sum(task.done() for task in asking) < 12 - 1 - WAITING:
        await asyncio.wait([task for task in asking if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    assert (await gateway.client.get("/events/1/why")).status_code == 503
    gate.set()
    answers = await asyncio.gather(*asking)
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 12 - 1 - WAITING and most == 1
    assert {answer.json()["type"] for answer in refused} == {"/problems/why-busy"}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert len(await gateway.log("log.read")) == 1 + WAITING, "who was refused has read nothing"


async def test_every_reading_is_an_event_with_its_purpose(gateway: Gateway) -> None:
    session, request_id = await used(gateway)
    auditor = await gateway.key(Role.AUDITOR, "auditor")
    await why(gateway, f"/why?of={session.session_id}", **auditor)
    await why(gateway, f"/why?of={request_id}", **auditor)
    await why(gateway, "/events/1/why", **auditor)
    reads = await gateway.payloads("log.read")
    assert [(read.what, read.session_id) for read in reads] == [
        ("why", session.session_id),
        ("why", session.session_id),
        ("why", None),
    ]
    assert reads[1].correlation_id == str(context.correlation_id_of(request_id))
    assert reads[0].purpose.c and reads[2].purpose == PURPOSE["x-audit-purpose"]


async def opened_alike(gateway: Gateway, count: int = 3) -> list[Session]:
    """Sessions of several people, opened by two frontends that sent the same X-Request-ID."""
    keys = [await gateway.key(Role.FRONTEND, name) for name in ("chat", "mail")]
    headers = {"x-request-id": MINE}
    return [
        await gateway.open({"owner": f"person-{number}"}, headers=keys[number % 2] | headers) for number in range(count)
    ]


async def history(gateway: Gateway, session: Session) -> list[dict[str, Any]]:
    answer = await gateway.client.get(f"/sessions/{session.session_id}/access-history", headers=PURPOSE)
    return [read for read in answer.json()["reads"] if read["what"] == "why"]


async def test_a_request_id_that_others_use_too_brings_none_of_their_sessions(gateway: Gateway) -> None:
    """It is the frontend's to choose: by it alone nobody comes into another's tree."""
    sessions = await opened_alike(gateway)
    first, *_ = await gateway.log("session.ready")
    for path in (f"/events/{first.event_id}/why", f"/why?of={sessions[0].session_id}"):
        tree = await why(gateway, path)
        assert tree["sessions"] == [sessions[0].session_id]
        assert "person-1" not in json.dumps(tree) and "session.requested" in types(tree["roots"])
    assert [len(await history(gateway, session)) for session in sessions] == [2, 0, 0]
    await gateway.client.get("/events/1", headers={"x-request-id": MINE})
    *_, read = await gateway.log("log.read")
    alone = await why(gateway, f"/events/{read.event_id}/why")
    assert alone["sessions"] == [], "nor into that of an event that concerns no session"


async def test_every_session_that_is_shown_has_it_in_its_history(gateway: Gateway) -> None:
    """Who asks for the request itself sees all of it; each purpose is sealed for the person it concerns."""
    sessions = await opened_alike(gateway)
    tree = await why(gateway, f"/why?of=request:{MINE}")
    assert tree["sessions"] == sorted(session.session_id for session in sessions)
    for session in sessions:
        (read,) = await history(gateway, session)
        assert (read["scope"], read["purpose"]) == ("session", PURPOSE["x-audit-purpose"])
    reads = [read for read in await gateway.payloads("log.read") if read.what == "why"]
    assert len({read.purpose.k for read in reads}) == 3, "one erasure takes one person's away"
    assert {read.correlation_id for read in reads} == {str(context.correlation_id_of(MINE))}


async def test_what_was_asked_for_is_recorded(gateway: Gateway) -> None:
    """Which event, and of which kind; not only up to where the log was then."""
    session, _ = await used(gateway)
    (ready,) = await gateway.log("session.ready")
    await why(gateway, f"/events/{ready.event_id}/why")
    (started, *_) = await gateway.log("gateway.started")
    await why(gateway, f"/events/{started.position}/why")
    trace_id = ready.trace_id.hex() if ready.trace_id else ""
    await why(gateway, f"/why?of=trace:{trace_id}")
    of_event, of_gateway, of_trace = await gateway.payloads("log.read")
    assert (of_event.after, of_event.until, of_event.stream) == (
        ready.position - 1,
        ready.position,
        session_stream(session.session_id),
    )
    assert (of_event.session_id, of_event.types) == (session.session_id, ("session.ready",))
    assert (of_gateway.after, of_gateway.until, of_gateway.stream) == (
        started.position - 1,
        started.position,
        started.stream_id,
    )
    assert (of_trace.trace_id, of_trace.session_id, of_trace.after) == (trace_id, session.session_id, None)
    assert [read["after"] for read in await history(gateway, session)] == [ready.position - 1, None]


async def test_without_a_purpose_nothing_is_read(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal costs a look, not ten thousand events."""
    session, request_id = await used(gateway)
    (ready,) = await gateway.log("session.ready")

    async def read(*given: object, **named: object) -> None:
        raise AssertionError("read before the purpose was asked for")

    monkeypatch.setattr(related, "of", read)
    monkeypatch.setattr(related, "of_event", read)
    trace_id = ready.trace_id.hex() if ready.trace_id else ""
    for of in (session.session_id, ready.event_id, ready.position, f"request:{request_id}", f"trace:{trace_id}"):
        answer = await gateway.client.get(f"/why?of={of}")
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/purpose-required"), of
    assert await gateway.log("log.read") == []


async def test_a_session_is_read_for_a_purpose_only(gateway: Gateway) -> None:
    session = await gateway.open()
    answer = await gateway.client.get(f"/why?of={session.session_id}")
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/purpose-required")
    assert await gateway.log("log.read") == []


async def test_what_names_nothing_is_refused_and_is_no_read(gateway: Gateway) -> None:
    for path, status, slug in (
        ("/events/0/why", 404, "event-unknown"),
        ("/events/999999/why", 404, "event-unknown"),
        (f"/events/{UUID(int=5)}/why", 404, "event-unknown"),
        ("/events/nonsense/why", 400, "bad-request"),
        ("/why", 400, "bad-request"),
        ("/why?of=", 400, "bad-request"),
        ("/why?of=a%20b", 400, "bad-request"),
        ("/why?of=span:1", 400, "bad-request"),
        ("/why?of=nobody-asked-this", 404, "event-unknown"),
        ("/why?of=session:ses_none", 404, "event-unknown"),
        ("/why?of=request:1", 404, "event-unknown"),
        (f"/why?of=trace:{'0' * 31}1", 404, "event-unknown"),
        ("/why?of=trace:short", 404, "event-unknown"),
        ("/why?of=1&of=2", 400, "bad-request"),
        ("/why?of=1&all=yes", 400, "bad-request"),
        ("/why?of=1&after=1", 400, "bad-request"),
        ("/why?of=1&all=true&after=x", 400, "bad-request"),
    ):
        answer = await gateway.client.get(path, headers=PURPOSE)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), path
    assert await gateway.log("log.read") == []


async def test_a_late_fact_and_a_missing_cause_are_told(gateway: Gateway) -> None:
    """As after a restored backup: the log has the effect, not its cause."""
    lost = UUID(int=77)
    data = made(cause=Cause(causation_id=lost))
    await gateway.services.store.append(StreamWrite("system", ANY, (data,)))
    tree = await why(gateway, f"/events/{data.event_id}/why")
    (node,) = tree["roots"]
    assert (node["link"], node["note"]) == ("missing", f"Its cause {lost} is not in the log.")
    assert node["late_us"] > 0, "it happened years before the log had it"
