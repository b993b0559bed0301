"""What every control route does before and after its handler: parameters, bodies, waits, refusals, denials."""

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.access.roles import Role
from gateway.api.call import MAX_WAIT_SECONDS, Call
from gateway.errors import Refused
from tests.gateway.clients import HANDSHAKE, nobody
from tests.gateway.faulty import FaultyStore, faulty_log
from tests.gateway_fixtures import WHY, Gateway, start_gateway

TOKEN_LIKE = "gwt_" + "a" * 32


def call(query: str = "", headers: list[tuple[bytes, bytes]] | None = None) -> Call:
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "headers": headers or []}
    return Call(request=Request(scope), services=None, caller_or_none=None)  # type: ignore[arg-type]  # not asked


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("", 0),
        ("wait=0", 0),
        ("wait=7", 7),
        ("respond-async, wait=30", 30),
        ("wait=30; x", 30),
        ("wait=500", MAX_WAIT_SECONDS),
        ("wait=1000", MAX_WAIT_SECONDS),
        ("wait=999999999", MAX_WAIT_SECONDS),
        ("wait=-1", 0),
        ("wait=soon", 0),
        ("await=9", 0),
    ],
)
def test_a_caller_waits_as_long_as_it_prefers_within_reason(prefer: str, seconds: int) -> None:
    assert call(headers=[(b"prefer", prefer.encode())]).wait_seconds() == seconds


@given(st.text(max_size=30))
def test_a_number_is_a_number_or_refused(text: str) -> None:
    """Whatever stands in a query: never an exception of another kind, never a number that is not there."""
    asked = call(f"n={quote(text, safe='')}")
    try:
        found = asked.number("n", 5, most=10**6)
    except Refused as refusal:
        assert refusal.slug == "bad-request"
    else:
        assert text.isascii() and text.isdigit() and found == int(text) <= 10**6


def test_a_number_that_is_not_given_is_the_default() -> None:
    assert call().number("n", 5) == 5


async def test_denials_are_told_before_the_caller_is_answered(tmp_path: Path) -> None:
    """Durable first: with the append held back, the caller is still waiting."""
    async with start_gateway(tmp_path, log_of=faulty_log) as gateway, nobody(gateway) as client:
        store = gateway.services.store
        assert isinstance(store, FaultyStore)
        store.held = "access.denied"
        unknown = "/s/ses_0123456789abcdefghjkmnpqrs/"
        for path, headers in [("/sessions", {}), (unknown, {}), (unknown, HANDSHAKE)]:
            store.holding.clear()
            store.release.clear()
            asking = asyncio.create_task(client.get(path, headers=headers))
            async with asyncio.timeout(5):
                await store.holding.wait()
            before = len(await store.read_log(types=("access.denied",)))
            done, _ = await asyncio.wait({asking}, timeout=0.1)
            assert not done, path
            store.release.set()
            assert (await asking).status_code == 401
            assert len(await store.read_log(types=("access.denied",))) == before + 1


async def test_who_is_refused_is_refused_also_without_the_log(tmp_path: Path) -> None:
    """The log away: no key and a wrong role are no question for it. Only what newer events could lift is one."""
    async with start_gateway(tmp_path, log_of=faulty_log) as gateway, nobody(gateway) as client:
        frontend = await gateway.key(Role.FRONTEND)
        store = gateway.services.store
        assert isinstance(store, FaultyStore)
        store.away = True
        assert (await client.get("/sessions")).status_code == 401
        assert (await client.get("/events", headers=frontend)).status_code == 403
        unknown = await client.get("/sessions", headers={"authorization": "Bearer gwk_kx_y"})
        assert (unknown.status_code, unknown.json()["type"]) == (503, "/problems/store-unavailable")
        assert int(unknown.headers["retry-after"]) > 0
        assert (await gateway.client.get("/sessions")).status_code == 200, "what is known is still shown"
        store.away = False


async def test_a_denial_holds_nothing_that_anybody_may_choose(gateway: Gateway) -> None:
    """Whoever pastes a token, or a name, into the path must not find it in the log for ever."""
    async with nobody(gateway) as client:
        for path in (f"/sessions/{TOKEN_LIKE}", "/sessions/ada@example.org", f"/sessions/{'x' * 2000}/progress"):
            assert (await client.get(path)).status_code == 401
        assert (await client.get("/sessions/ses_0123456789abcdefghjkmnpqrs")).status_code == 401
    told = [(denied.route, denied.session_id) for denied in await gateway.payloads("access.denied")]
    assert told == [
        ("/sessions/{session_id}", None),
        ("/sessions/{session_id}", None),
        ("/sessions/{session_id}/progress", None),
        ("/sessions/{session_id}", "ses_0123456789abcdefghjkmnpqrs"),
    ]


async def test_a_refused_upload_is_answered_before_it_ends(gateway: Gateway) -> None:
    """The answer is not lost in a reset although nobody reads the body."""
    async with nobody(gateway) as client:
        answer = await client.post("/sessions", content=b"x" * 3_000_000)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/no-credential")


def test_a_parameter_that_may_stand_once_is_refused_twice() -> None:
    """Which of two would count is anybody's guess."""
    assert (call().text("as_of"), call("as_of=5").text("as_of"), call("as_of=").text("as_of")) == (None, "5", "")
    with pytest.raises(Refused, match="as_of is given 2 times"):
        call("as_of=5&as_of=6").text("as_of")


async def test_every_route_with_a_key_refuses_a_parameter_twice(gateway: Gateway) -> None:
    """Also one that the handler would not have looked at, or asks for once it has read."""
    session = await gateway.open()
    for path in (
        "/sessions?status=running&status=stopped",
        "/sessions?min_position=1&min_position=2",
        f"/sessions/{session.session_id}?as_of=3&as_of=4",
        f"/sessions/{session.session_id}/progress?after=1&after=2",
        "/events?limit=1&limit=1",
        "/why?of=3&of=4&all=true",
    ):
        answer = await gateway.client.get(path, headers=WHY)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), path
        assert "is given 2 times" in answer.json()["detail"], path
    last = {"last-event-id": "1"}
    answer = await gateway.client.get("/sessions/stream?after=1&after=2", headers=last)
    assert (answer.status_code, "after is given 2 times" in answer.text) == (400, True)


async def test_parameters_that_a_route_does_not_know_are_refused_by_name(gateway: Gateway) -> None:
    """A slip must not answer another question. Strangers learn nothing of it, and probes may add what they like."""
    session = await gateway.open()
    for method, path, known in [
        ("GET", "/sessions?asof=3", "as_of"),
        ("GET", f"/sessions/{session.session_id}?status=running", "as_of"),
        ("POST", "/sessions?wait=3", "none"),
        ("DELETE", f"/sessions/{session.session_id}?wait=3", "none"),
        ("GET", f"/sessions/{session.session_id}/progress?form=1", "after"),
        ("GET", "/sessions?" + "x" * 5000 + "=1", "as_of"),
    ]:
        answer = await gateway.client.request(method, path)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), path
        detail = answer.json()["detail"]
        assert repr(path.partition("?")[2].partition("=")[0][:40]) in detail and known in detail, detail
    async with nobody(gateway) as stranger:
        assert (await stranger.get("/sessions?asof=3")).status_code == 401
    assert (await gateway.client.get("/livez?now=1")).status_code == 200
    assert len(await gateway.log("session.requested")) == 1 and await gateway.log("session.stop_requested") == []
