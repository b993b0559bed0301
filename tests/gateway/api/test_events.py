"""The log in pages: whole, filtered, recorded."""

from typing import Any

import pytest

from events.catalogue import LogRead
from events.envelope import SYSTEM, ActorKind, Sealed, session_stream
from events.filter import EventFilter, Found
from events.memory import MemoryEventStore
from gateway.access.roles import Role
from gateway.api import events
from gateway.recorder import Who
from tests.gateway.clients import nobody, stream
from tests.gateway_fixtures import WHY, Gateway, placed


async def page(gateway: Gateway, query: str = "", **headers: str) -> dict[str, Any]:
    answer = await gateway.client.get(f"/events?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_pages_are_the_log_without_gap_or_double(gateway: Gateway) -> None:
    """Whatever the size of the page, and although every page adds an event to what is read."""
    await gateway.open()
    whole = await gateway.log()
    for limit in (2, 3, 7, 1000):
        after, got = 0, list[int]()
        while after < whole[-1].position:
            read = await page(gateway, f"after={after}&limit={limit}")
            got += [event["position"] for event in read["events"]]
            assert len(read["events"]) <= limit
            after = read["next"]
        assert got[: len(whole)] == [event.position for event in whole]
        assert got == list(range(1, len(got) + 1))


async def test_a_page_that_is_not_full_is_the_last_one(gateway: Gateway) -> None:
    """How a reader of pages comes to rest: each read is an event, so an empty page never comes unfiltered."""
    await gateway.open()
    after, reads, size = 0, 0, 5
    while True:
        read = await page(gateway, f"after={after}&limit={size}")
        after, reads = read["next"], reads + 1
        if len(read["events"]) < size:
            break
        assert reads < 20, "reading runs after itself"
    head = (await gateway.services.store.head()).position
    assert after == head - 1, "all but the record of this last read"


async def test_next_moves_on_when_nothing_matches(gateway: Gateway) -> None:
    """Else every poll of a rare type would search the whole log again."""
    head = (await gateway.services.store.head()).position
    read = await page(gateway, "type=container.lost")
    assert (read["events"], read["next"]) == ([], head)
    again = await page(gateway, f"type=container.lost&after={read['next']}")
    assert (again["events"], again["next"]) == ([], head + 1)


async def test_filters_are_types_families_and_streams(gateway: Gateway) -> None:
    one, other = await gateway.open(), await gateway.open()

    async def types(query: str) -> list[str]:
        return [event["type"] for event in (await page(gateway, query, **WHY))["events"]]

    assert await types("type=session.ready") == ["session.ready"] * 2
    assert set(await types("type=token.*&type=session.requested")) == {"token.issued", "session.requested"}
    stream = session_stream(one.session_id)
    seen = (await page(gateway, f"stream={stream}", **WHY))["events"]
    assert {event["stream_id"] for event in seen} == {stream}
    assert [event["version"] for event in seen] == [1, 2, 3]
    assert await types(f"stream={session_stream(other.session_id)}&type=session.ready") == ["session.ready"]


async def test_every_read_is_an_event_of_who_read_what(gateway: Gateway) -> None:
    auditor = await gateway.key(Role.AUDITOR, "auditor")
    read = await page(gateway, "after=1&limit=2&type=gateway.*&stream=system", **auditor)
    (event,) = await gateway.log("log.read")
    (told,) = await gateway.payloads("log.read")
    assert (told.what, told.after, told.until, told.types, told.stream) == (
        "events",
        1,
        read["next"],
        ("gateway.*",),
        "system",
    )
    actor = (await page(gateway, "type=log.read"))["events"][0]["actor"]
    assert (actor["kind"], actor["id"]) == ("key", "auditor")
    assert event.correlation_id is not None and event.trace_id is not None


async def test_a_page_of_one_session_is_told_as_such_however_it_was_asked_for(gateway: Gateway) -> None:
    """By one event's place, or by a type and a range: whose session it was shows in that one's history alone."""
    one, other = await gateway.open({"owner": "ada"}), await gateway.open({"owner": "bob"})
    first, second = [event.position for event in await gateway.log("session.requested")]
    for query, session, why in [
        (f"after={first - 1}&limit=1", one, None),
        (f"type=session.requested&since={first}&until={second}", other, "x-audit-purpose"),
        ("type=session.requested", None, None),
        ("type=gateway.*", None, None),
    ]:
        before = len(await gateway.log("log.read"))
        await page(gateway, query, **(WHY if why else {}))
        event, told = (await gateway.log("log.read"))[before], (await gateway.payloads("log.read"))[before]
        assert told.session_id == (None if session is None else session.session_id), query
        assert isinstance(told.purpose, Sealed if why else type(None)) and b"a test" not in event.payload
    history = await gateway.client.get(f"/sessions/{other.session_id}/access-history", headers=WHY)
    shown = [(read["scope"], read["after"], read["purpose"]) for read in history.json()["reads"]]
    assert shown == [("session", first, "a test"), ("everything", 0, None)]


async def test_what_is_refused_is_no_read(gateway: Gateway) -> None:
    """A sentence that names the parameter; nothing is read, so nothing is recorded."""
    beyond = (await gateway.services.store.head()).position + 10
    for query, name in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("after=-1", "after"),
        ("after=1e3", "after"),
        (f"after={'9' * 30}", "after"),
        (f"after={beyond}", str(beyond)),
        ("stream=nothing", "stream"),
        ("stream=session-", "stream"),
        ("stream=", "stream"),
        ("type=", "type"),
        ("type=session", "type"),
        ("type=*", "type"),
        ("type=session.%25", "type"),
        ("type=session.ready&type=session.*.*", "type"),
        ("type=Session.ready", "type"),
    ]:
        answer = await gateway.client.get(f"/events?{query}")
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), query
        assert name in answer.json()["detail"], query
    assert await gateway.log("log.read") == []


async def test_personal_fields_are_open_to_auditors_until_erased(gateway: Gateway) -> None:
    """Owner, metadata, path and client address are read while the subject's key exists, then nowhere."""
    session = await gateway.open({"owner": "ada", "metadata": {"room": "blue"}})
    async with nobody(gateway) as client:
        await client.get(session.path("echo/letter-to-bob"), headers=session.headers)
    assert await gateway.services.exchanges.flush(5)
    before = await page(gateway, "limit=1000")
    told = {event["type"]: event for event in before["events"]}
    assert told["session.requested"]["payload"]["owner"] == "ada"
    assert told["session.requested"]["payload"]["metadata"] == '{"room":"blue"}'
    assert told["session.requested"]["actor"]["on_behalf_of"] == "ada"
    assert told["exchange.completed"]["payload"]["path"] == "/echo/letter-to-bob"
    assert told["exchange.completed"]["payload"]["client"] == "127.0.0.9"
    assert await gateway.services.keyring.erase("ada")
    after = await page(gateway, "limit=1000")
    told = {event["type"]: event for event in after["events"]}
    for name in ("owner", "metadata"):
        assert told["session.requested"]["payload"][name] == "[erased]"
    for name in ("path", "client"):
        assert told["exchange.completed"]["payload"][name] == "[erased]"
    assert told["session.requested"]["actor"]["on_behalf_of"] == "[erased]"
    assert [event["position"] for event in after["events"]][: len(before["events"])] == [
        event["position"] for event in before["events"]
    ]


async def test_a_page_ends_at_the_head_of_its_reading(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while a page is read comes on the next one; ``next`` never passes over it."""
    who = Who(kind=ActorKind.OPERATOR, id="test")
    store = gateway.services.store
    inner, late = store.search, list[int]()

    async def search(wanted: EventFilter, **asked: Any) -> Any:
        late.append(await placed(gateway.services.recorder.fact(SYSTEM, LogRead(what="test"), who=who)))
        return await inner(wanted, **asked)

    with monkeypatch.context() as patch:
        patch.setattr(store, "search", search)  # somebody writes between the two questions
        read = await page(gateway, "type=log.read")
    assert read["next"] == late[0] - 1
    again = await page(gateway, f"type=log.read&after={read['next']}")
    assert late[0] in [event["position"] for event in again["events"]]


async def test_cursors_walk_the_whole_log_without_gap_or_double(gateway: Gateway) -> None:
    """By the field and by the link of the header (RFC 8288), which is there until the end is reached."""
    await gateway.open()
    until = (await gateway.log())[-1].position
    for limit in (1, 4, 1000):
        path: str | None = f"/events?limit={limit}&until={until}"
        got = list[int]()
        while path:
            answer = await gateway.client.get(path)
            page = answer.json()
            got += [event["position"] for event in page["events"]]
            following = answer.links.get("next", {}).get("url")
            assert (following is None) is page["complete"]
            if following:
                assert following == f"/events?cursor={page['cursor']}&limit={limit}"
            path = following
        assert got == list(range(1, until + 1))


async def test_a_cursor_at_the_head_goes_on_with_what_comes_later(gateway: Gateway) -> None:
    """How a program that polls reads: each page's cursor, whether complete or not."""
    page = (await gateway.client.get("/events", params={"type": "session.*"})).json()
    assert (page["events"], page["complete"], page["next"]) == ([], True, page["head"])
    session = await gateway.open()
    later = (await gateway.client.get("/events", params={"cursor": page["cursor"]})).json()
    assert [event["stream_id"] for event in later["events"]] == [session_stream(session.session_id)] * 2
    async with stream(gateway, f"/events/stream?cursor={page['cursor']}") as frames:
        told = [await anext(frames) for _ in range(3)][1:]
    assert [frame.position for frame in told] == [event["position"] for event in later["events"]]


async def test_a_search_that_took_too_long_says_how_far_it_looked(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing found is not nothing there: the answer is not complete, and its cursor goes on."""
    await gateway.open()
    head = (await gateway.services.store.head()).position
    store = gateway.services.store
    inner = store.search

    async def slow(wanted: EventFilter, *, after: int, until: int, limit: int) -> Found:
        return await inner(wanted, after=after, until=min(until, after + 3), limit=limit)

    with monkeypatch.context() as patch:
        patch.setattr(store, "search", slow)
        patch.setattr(events, "SEARCH_SECONDS", -1.0)
        answer = await gateway.client.get("/events", params={"type": "session.ready", "until": head})
        page = answer.json()
        assert (page["events"], page["next"], page["complete"]) == ([], 3, False)
        got, pages = list[Any](), 1
        while "next" in answer.links:
            answer = await gateway.client.get(answer.links["next"]["url"])
            got, pages = got + answer.json()["events"], pages + 1
        assert answer.json()["complete"]
        assert ([event["type"] for event in got], pages) == (["session.ready"], -(-head // 3))


async def test_a_cursor_of_a_log_that_was_restored_is_refused(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its reader would never learn what was lost."""
    await gateway.open()
    page = (await gateway.client.get("/events", params={"limit": 4})).json()
    store = gateway.services.store
    assert isinstance(store, MemoryEventStore)
    with monkeypatch.context() as patch:
        patch.setattr(store.ledger, "log", store.ledger.log[:3])
        answer = await gateway.client.get("/events", params={"cursor": page["cursor"]})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-cursor")
    assert "lost events" in answer.json()["detail"]


async def test_one_event_by_its_id_or_its_position(gateway: Gateway) -> None:
    """Its reader says why when it is of a session, and the reading is an event."""
    session = await gateway.open({"owner": "ada"})
    (wanted,) = await gateway.log("session.requested")
    for name in (str(wanted.position), str(wanted.event_id), str(wanted.event_id).upper(), wanted.event_id.hex):
        answer = await gateway.client.get(f"/events/{name}", headers=WHY)
        assert (answer.json()["position"], answer.json()["payload"]["owner"]) == (wanted.position, "ada")
    refused = await gateway.client.get(f"/events/{wanted.position}")
    assert refused.json()["type"] == "/problems/purpose-required"
    assert (await gateway.client.get("/events/1")).json()["type"] == "gateway.started", "which is of no session"
    told = await gateway.payloads("log.read")
    assert [(read.what, read.session_id) for read in told] == [("event", session.session_id)] * 4 + [("event", None)]
    assert {(read.after, read.until) for read in told[:4]} == {(wanted.position - 1, wanted.position)}


async def test_an_event_that_is_none(gateway: Gateway) -> None:
    for name, problem in [
        ("0", "event-unknown"),
        ("999999", "event-unknown"),
        ("9" * 18, "event-unknown"),
        ("01a230c6-9e66-7470-946b-01b523bc02ba", "event-unknown"),
        ("9" * 19, "bad-request"),
        ("-1", "bad-request"),
        ("ses_1", "bad-request"),
    ]:
        answer = await gateway.client.get(f"/events/{name}")
        assert answer.json()["type"] == f"/problems/{problem}", name
    assert await gateway.log("log.read") == []
