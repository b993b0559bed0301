"""Who may call what: every route and method of the table, by every kind of caller (row E4)."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import httpx

from events.envelope import KEYS, ActorKind
from gateway.access.keys import new_key, revoked
from gateway.access.roles import Role
from gateway.recorder import Who, utc_now
from gateway.routes import ROUTES
from tests.gateway.clients import nobody
from tests.gateway_fixtures import WHY, Gateway, placed

FRONTEND, AUDITOR, OPERATOR = Role.FRONTEND, Role.AUDITOR, Role.OPERATOR
# The decision for each operation, written down a second time: who changes one, or adds a route, decides here too.
DECIDED: Final[Mapping[tuple[str, str], set[Role] | None]] = {
    ("POST", "/sessions"): {FRONTEND, OPERATOR},
    ("GET", "/sessions"): {FRONTEND, AUDITOR, OPERATOR},
    ("GET", "/sessions/stream"): {FRONTEND, AUDITOR, OPERATOR},
    ("GET", "/sessions/{session_id}"): {FRONTEND, AUDITOR, OPERATOR},
    ("DELETE", "/sessions/{session_id}"): {FRONTEND, OPERATOR},
    ("POST", "/sessions/{session_id}/resume"): {FRONTEND, OPERATOR},
    ("GET", "/sessions/{session_id}/progress"): {FRONTEND, AUDITOR, OPERATOR},
    ("GET", "/sessions/{session_id}/timeline"): {FRONTEND, AUDITOR, OPERATOR},
    ("GET", "/sessions/{session_id}/access-history"): {FRONTEND, AUDITOR, OPERATOR},
    ("POST", "/sessions/{session_id}/token"): {FRONTEND, OPERATOR},
    ("GET", "/events"): {AUDITOR, OPERATOR},
    ("GET", "/events/stream"): {AUDITOR, OPERATOR},
    ("GET", "/events/{event_id}"): {AUDITOR, OPERATOR},
    ("GET", "/events/{event_id}/why"): {AUDITOR, OPERATOR},
    ("GET", "/why"): {AUDITOR, OPERATOR},
    ("GET", "/health"): None,
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/openapi.json"): None,
}
UNKNOWN: Final = "ses_0123456789abcdefghjkmnpqrs"
BAD: Final = ("no-credential", "bad-credential", "expired-credential", "revoked-credential")


async def written(gateway: Gateway, *payloads: Any) -> None:
    for payload in payloads:
        who = Who(kind=ActorKind.OPERATOR, id="test")
        await gateway.services.views.catch_up(await placed(gateway.services.recorder.fact(KEYS, payload, who=who)))


async def callers(gateway: Gateway) -> dict[str, dict[str, str]]:
    """Headers by the name of the caller: a role, or the slug of what is wrong with it."""
    expired = new_key("expired", OPERATOR, utc_now() - timedelta(seconds=1))
    gone = new_key("revoked", OPERATOR)
    await written(gateway, expired.created, gone.created, revoked(gone.created.key_id))
    keys = {"expired-credential": expired.key, "revoked-credential": gone.key}
    keys["bad-credential"] = new_key("never told", OPERATOR).key
    made = {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}
    return made | {role.value: await gateway.key(role) for role in Role} | {"no-credential": {}}


async def outcome(client: httpx.AsyncClient, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Status, and slug of a problem; a stream is left at once."""
    async with client.stream(method, path.format(session_id=UNKNOWN, event_id="1"), headers=headers) as answer:
        if answer.headers["content-type"] != "application/problem+json":
            return answer.status_code, ""
        await answer.aread()
        if method == "HEAD":
            return answer.status_code, ""
        return answer.status_code, str(answer.json()["type"]).removeprefix("/problems/")


def expected(caller: str, roles: set[Role] | None) -> tuple[int, str] | None:
    """The refusal; None when the caller gets through to the handler."""
    if roles is None or caller in {role.value for role in roles}:
        return None
    return (401, caller) if caller in BAD else (403, "wrong-role")


def test_every_route_has_a_decision() -> None:
    """And the table says the same; a new route without one fails here."""
    assert {(route.method, route.path): set(route.roles) or None for route in ROUTES} == DECIDED


def test_every_operation_stands_once() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


async def test_the_role_matrix_holds_on_every_route(gateway: Gateway) -> None:
    """Every route and method by every role, by no key, and by a wrong, an expired and a revoked one; HEAD as GET."""
    who = await callers(gateway)
    refused: list[tuple[str, str, str]] = []
    async with nobody(gateway) as client:
        for (method, path), roles in DECIDED.items():
            for called in {"GET": ("GET", "HEAD")}.get(method, (method,)):
                for name, headers in who.items():
                    status, slug = await outcome(client, called, path, headers)
                    refusal = expected(name, roles)
                    if refusal is None:
                        assert status not in (401, 403, 405), (called, path, name, status, slug)
                        continue
                    told = (status, slug or refusal[1]) if called == "HEAD" else (status, slug)
                    assert told == refusal, (called, path, name)
                    refused.append((refusal[1].replace("-", "_"), called, path))
    assert [(each.reason, each.method, each.route) for each in await gateway.payloads("access.denied")] == refused
    assert len(refused) > 60


async def test_a_session_token_opens_no_control_route(gateway: Gateway) -> None:
    session = await gateway.open()
    async with nobody(gateway) as client:
        for (method, path), roles in DECIDED.items():
            status, slug = await outcome(client, method, path, session.headers)
            assert (status, slug) == (401, "bad-credential") if roles else status == 200, (method, path)


async def test_a_key_shown_elsewhere_than_as_bearer_is_none(gateway: Gateway) -> None:
    """Cookies are sent by browsers by themselves, queries are written down on the way."""
    key = str(gateway.client.headers["authorization"]).removeprefix("Bearer ")
    async with nobody(gateway) as client:
        for headers in ({"cookie": f"authorization=Bearer {key}; key={key}"}, {"x-api-key": key}):
            assert await outcome(client, "GET", "/sessions", headers) == (401, "no-credential")
        assert await outcome(client, "GET", f"/sessions?key={key}&access_token={key}", {}) == (401, "no-credential")


async def test_ownership_crosses_the_roles(gateway: Gateway) -> None:
    """Row E7: what a role may do, it may do on its own sessions; auditors and operators see all of them."""
    mine, theirs = await gateway.key(FRONTEND, "mine"), await gateway.key(FRONTEND, "theirs")
    auditor = await gateway.key(AUDITOR)
    session = await gateway.open(headers=mine)
    denied = 0
    async with nobody(gateway) as client:
        for (method, path), roles in DECIDED.items():
            if "{session_id}" not in path or method == "DELETE":
                continue
            here = path.format(session_id=session.session_id)
            for headers, is_owner in [(mine, True), (theirs, False), (auditor, True)]:
                if headers is auditor and AUDITOR not in (roles or ()):
                    continue
                status, slug = await outcome(client, method, here, headers | WHY)
                if is_owner:
                    assert status < 300 or slug == "illegal-move", (method, path, status, slug)
                else:
                    assert (status, slug) == (404, "session-unknown"), (method, path)
                    denied += 1
        assert await outcome(client, "DELETE", f"/sessions/{session.session_id}", theirs) == (404, "session-unknown")
        assert (await outcome(client, "DELETE", f"/sessions/{session.session_id}", mine))[0] == 202
    told = await gateway.payloads("access.denied")
    assert [(each.reason, each.status, each.session_id) for each in told] == [
        ("not_owner", 404, session.session_id)
    ] * (denied + 1)
