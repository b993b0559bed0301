"""The list in pages, all of one position; its cursor, that is nothing but a place; its answer, made in pieces."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.keyring import MemoryKeyring
from gateway.access.roles import Role
from gateway.access.tokens import Secret, Tokens
from gateway.api import cursor as cursors
from gateway.api import session_list, shapes
from gateway.api.session_list import MOST, OF, STEP, Cursor
from gateway.errors import Refused
from projections.lifecycle import Phase, Status
from projections.session_state import SessionState
from tests.factories import MOMENT
from tests.gateway.faulty import faulty, spooling_log
from tests.gateway.world import eventually
from tests.gateway_fixtures import WAIT, WHY, Gateway, start_gateway

TOKENS = Tokens(Secret.of(b"s" * 32), 43)
CURSOR = Cursor(UUID(int=7), 5, True, "running", 2, MOMENT, "ses_1")


def text_of(cursor: Cursor, tokens: Tokens = TOKENS) -> str:
    return cursors.encode(tokens, cursor, of=OF)


async def ids(gateway: Gateway, **query: object) -> tuple[list[str], dict[str, object]]:
    """The ids of a page, and the rest of it."""
    answer = await gateway.client.get("/sessions", params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return [each["session_id"] for each in page.pop("sessions")], page


async def test_pages_are_of_the_position_of_the_first(gateway: Gateway) -> None:
    """What happens between two pages is in none of them: each session stands once, as it was at first."""
    opened = [(await gateway.open()).session_id for _ in range(3)]
    first, page = await ids(gateway, limit=2)
    assert first == opened[:2]
    await gateway.client.delete(f"/sessions/{opened[2]}", headers={"prefer": "wait=30"})
    fourth = (await gateway.open()).session_id
    cursor, position = page["next"], page["position"]
    assert await ids(gateway, cursor=cursor) == (opened[2:], {"position": position, "next": None})
    answer = await gateway.client.get("/sessions", params={"cursor": str(cursor)})
    assert answer.json()["sessions"][0]["status"] == "running"
    # Whoever is shown what is no more so looks back, with whichever cursor; the unchanged is the present.
    assert [(each.what, each.until) for each in await gateway.payloads("log.read")] == [("as_of", position)] * 2
    assert gateway.services.lookbacks.folds == 0  # and nobody folds the log for it
    assert (await ids(gateway))[0] == [*opened, fourth]


async def test_pages_of_the_past_and_of_a_status(gateway: Gateway) -> None:
    """A reader who looks back page by page is recorded for each."""
    opened = [(await gateway.open()).session_id for _ in range(3)]
    position = gateway.services.views.position
    await gateway.client.delete(f"/sessions/{opened[1]}", headers={"prefer": "wait=30"})
    seen: list[str] = []
    query: dict[str, object] = {"as_of": position, "limit": 1, "status": "running"}
    while query:
        found, page = await ids(gateway, **query)
        assert page["position"] == position
        seen += found
        query = {"cursor": page["next"]} if page["next"] else {}
    assert seen == opened
    assert [(each.what, each.until) for each in await gateway.payloads("log.read")] == [("as_of", position)] * 3
    assert await ids(gateway, status="running", limit=2) == ([opened[0], opened[2]], (await ids(gateway))[1])


async def test_a_page_shows_each_caller_its_own(gateway: Gateway) -> None:
    """A cursor is no credential."""
    mine, theirs = await gateway.key(Role.FRONTEND, "mine"), await gateway.key(Role.FRONTEND, "theirs")
    opened = [(await gateway.open(headers=headers)).session_id for headers in (mine, theirs, mine)]
    cursor = (await gateway.client.get("/sessions?limit=1", headers=mine)).json()["next"]
    for headers, expected in [(mine, opened[2:]), (theirs, opened[1:2])]:
        answer = await gateway.client.get("/sessions", params={"cursor": cursor}, headers=headers)
        assert [each["session_id"] for each in answer.json()["sessions"]] == expected


async def test_what_cannot_be_a_page_is_refused(gateway: Gateway) -> None:
    await gateway.open()
    own = msgspec.structs.replace(CURSOR, log_id=gateway.services.store.log_id)
    tokens = gateway.services.tokens
    cursor, ahead = (text_of(each, tokens) for each in (own, msgspec.structs.replace(own, position=10**9)))
    for query, slug, says in [
        ("limit=0", "bad-request", "from 1"),
        (f"limit={MOST + 1}", "bad-request", str(MOST)),
        ("limit=", "bad-request", "limit"),
        ("limit=1&limit=2", "bad-request", "2 times"),
        (f"cursor={cursor}&as_of=3", "bad-request", "as_of"),
        (f"cursor={cursor}&status=running", "bad-request", "status"),
        (f"cursor={ahead}", "bad-request", "another log"),
        (f"cursor={text_of(CURSOR, tokens)}", "bad-cursor", "another log"),
        (f"cursor={text_of(own)}", "bad-cursor", "Begin again"),  # with a secret that is not the gateway's
        ("cursor=", "bad-cursor", "Begin again"),
    ]:
        answer = await gateway.client.get(f"/sessions?{query}")
        assert (answer.status_code, answer.json()["type"]) == (400, f"/problems/{slug}"), query
        assert says in answer.json()["detail"], query


@given(st.binary(max_size=120) | st.just(b"") | st.just(msgspec.msgpack.encode(["x"])))
def test_no_other_text_is_a_cursor(raw: bytes) -> None:
    """Whatever is sent: a refusal, never an exception of another kind."""
    for text in (base64.urlsafe_b64encode(raw).decode(), raw.decode("latin-1"), "A" * 9000):
        with pytest.raises(Refused, match="Begin again"):
            session_list.decode(TOKENS, text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": MOST + 1},
        {"position": -1},
        {"status": "ready"},
        {"created_at": datetime(2026, 1, 1)},
    ],
)
def test_a_cursor_is_what_it_says_and_not_a_bit_else(wrong: dict[str, object]) -> None:
    assert session_list.decode(TOKENS, text_of(CURSOR)) == CURSOR
    with pytest.raises(Refused):
        session_list.decode(TOKENS, text_of(msgspec.structs.replace(CURSOR, **wrong)))
    with pytest.raises(Refused):
        session_list.decode(TOKENS, text_of(CURSOR) + "=")


@pytest.mark.parametrize("number", [0, 1, STEP, STEP + 1, 2 * STEP + 1])
async def test_the_answer_made_in_pieces_is_the_answer(number: int) -> None:
    states = [
        SessionState(session_id=f"s{at}", phase=Phase.READY, created_at=MOMENT.astimezone(UTC)) for at in range(number)
    ]
    keyring = MemoryKeyring()
    whole = shapes.SessionList(sessions=await shapes.sessions(states, keyring), position=9, next='a"b')
    assert await session_list.document(states, keyring, position=9, cursor='a"b') == msgspec.json.encode(whole)
    assert {Status(each.status) for each in whole.sessions} <= {Status.RUNNING}


@pytest.mark.parametrize("limit", [1, 2])
async def test_pages_gone_on_with_are_the_list_of_then(gateway: Gateway, limit: int) -> None:
    """Whatever changed since: stopped, resumed, failed or new, with a status or without."""
    opened = [await gateway.open() for _ in range(3)]
    await gateway.stop(opened[1])
    for status in (None, "running", "stopped"):
        query: dict[str, object] = {"limit": limit} if status is None else {"limit": limit, "status": status}
        seen, page = await ids(gateway, **query)
        position = page["position"]
        whole, _ = await ids(gateway, as_of=position, **({} if status is None else {"status": status}))
        await gateway.client.post(f"/sessions/{opened[1].session_id}/resume", headers=WAIT)
        await gateway.stop(opened[2])
        while page["next"] is not None:
            more, page = await ids(gateway, cursor=page["next"])
            assert page["position"] == position and len(more) <= limit
            seen += more
        assert seen == whole
        await gateway.client.post(f"/sessions/{opened[2].session_id}/resume", headers=WAIT)
        await gateway.stop(opened[1])


async def test_many_that_changed_are_folded_once_and_in_turn(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old cursor must not make a process read each session of the log by itself."""
    mine = await gateway.key(Role.FRONTEND, "mine")
    opened = [await gateway.open(headers=mine) for _ in range(2)]
    await gateway.open()
    _, page = await ids(gateway, limit=1)
    cursor = {"cursor": str(page["next"])}
    assert (await gateway.client.get("/sessions", params=cursor)).json()["sessions"][0]["status"] == "running"
    assert await gateway.payloads("log.read") == [], "nothing has changed: it is the present"
    await gateway.stop(opened[1])
    monkeypatch.setattr(session_list, "REREAD", 0)
    answer = (await gateway.client.get("/sessions", params=cursor | {"limit": "2"}, headers=mine)).json()
    assert [each["session_id"] for each in answer["sessions"]] == [each.session_id for each in opened[1:]]
    assert (answer["sessions"][0]["status"], answer["next"]) == ("running", None)
    assert gateway.services.lookbacks.folds == 1
    monkeypatch.setattr(gateway.services.lookbacks, "sessions", _busy)
    busy = await gateway.client.get("/sessions", params=cursor)
    assert (busy.status_code, busy.json()["type"]) == (503, "/problems/lookback-busy")


async def _busy(position: int) -> list[SessionState]:
    raise Refused("lookback-busy", f"Others look back, not only at {position}.", retry_after=1)


async def test_a_list_that_shows_what_waits_in_the_spool_goes_on(tmp_path: Path) -> None:
    """While the log is away all pages show what waits for it; later they show what the log had at that position."""
    async with start_gateway(tmp_path, log_of=spooling_log) as gateway:
        opened = [await gateway.open() for _ in range(2)]
        store = gateway.services.store
        faulty(store).away = True
        await eventually(lambda: not store.status.available)
        for session in opened:
            await gateway.stop(session)
        assert gateway.services.views.spooled
        answer = await gateway.client.get("/sessions?limit=1")
        assert answer.json()["sessions"][0]["status"] == "stopped"
        cursor = {"cursor": answer.json()["next"]}
        (rest,) = (await gateway.client.get("/sessions", params=cursor)).json()["sessions"]
        assert (rest["session_id"], rest["status"]) == (opened[1].session_id, "stopped")
        faulty(store).away = False
        await eventually(lambda: store.status.available and not gateway.services.views.spooled)
        (rest,) = (await gateway.client.get("/sessions", params=cursor)).json()["sessions"]
        assert (rest["session_id"], rest["status"]) == (opened[1].session_id, "running")


async def test_a_local_time_is_meant_as_the_query_says(gateway: Gateway) -> None:
    """``tz`` and ``fold``, for one session and for all; what they leave open is refused with both instants."""
    session = await gateway.open()
    (ready,) = await gateway.log("session.ready")
    local = ready.recorded_at.astimezone(ZoneInfo("Asia/Kathmandu")).replace(tzinfo=None).isoformat()
    for path in ("/sessions", f"/sessions/{session.session_id}"):
        answer = await gateway.client.get(path, params={"as_of": local, "tz": "Asia/Kathmandu"}, headers=WHY)
        assert (answer.status_code, answer.headers["as-of-position"]) == (200, str(ready.position)), answer.text
        assert "as-of-position" not in (await gateway.client.get(path)).headers
        twice = {"as_of": "2020-10-25T02:30", "tz": "Europe/Berlin"}
        for query, says in [
            (twice, "2020-10-25T02:30:00+02:00 and 2020-10-25T02:30:00+01:00"),
            ({**twice, "fold": "third"}, "first or second"),
            ({**twice, "as_of": "2020-03-29T02:30"}, "never was in Europe/Berlin"),
            ({"as_of": local}, "as_of: "),
            ({"as_of": "2020-10-25T02:30:00 01:00"}, "%2B"),
            ({"as_of": local, "tz": "Nowhere"}, "tz: "),
            ({"tz": "Europe/Berlin"}, "missing"),
            ({"fold": "first"}, "missing"),
        ]:
            refused = await gateway.client.get(path, params=query, headers=WHY)
            assert (refused.status_code, refused.json()["type"]) == (400, "/problems/bad-request"), query
            assert says in refused.json()["detail"], refused.json()
        chosen = await gateway.client.get("/sessions", params={**twice, "fold": "first"})
        assert (chosen.json()["sessions"], chosen.json()["position"]) == ([], 0)
