"""A gateway that answers whom it does not know is told."""

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.session_auth import ROW, WRONG, guarded
from tests.gateway.doctor.world import Answering, beside, here
from tests.gateway_fixtures import Gateway

LISTED = b'{"sessions":[{"session_id":"s1","status":"running"},{"session_id":"s2","status":"stopped"}]}'


class Open(Answering):
    """Lets everybody in on one path."""

    async def call(self, method: str, path: str, **asked: object) -> bytes:
        if asked.get("bearer") == WRONG and path == "/events":
            return b"{}"
        if asked.get("bearer") == WRONG:
            self.answers = {}
        return await super().call(method, path, **asked)


async def test_a_gateway_with_a_session_refuses_what_it_does_not_know(gateway: Gateway) -> None:
    session = await gateway.open()
    key = gateway.client.headers["authorization"].removeprefix("Bearer ")
    found = await look(ROW, here(url=gateway.url, key=key))
    assert found.state is State.PASS, found.sentence
    assert {"/sessions", "/events", session.path("")} <= set(found.facts["routes"])
    assert await gateway.log("access.denied")


async def test_a_route_that_is_open_to_all_fails() -> None:
    found = await look(ROW, beside(Open({"/sessions": LISTED})))
    assert (found.state, "answers /events." in found.sentence) == (State.FAIL, True)


async def test_a_key_of_ours_that_is_refused_fails() -> None:
    assert (await look(ROW, beside(Answering({})))).state is State.FAIL


async def test_without_a_gateway_it_is_skipped() -> None:
    assert (await look(ROW, here(url="http://127.0.0.1:1", key="k"))).state is State.SKIP


def test_routes_that_need_a_key_are_tried() -> None:
    assert {"/sessions", "/events", "/why"} <= set(guarded())
    assert not {"/livez", "/health", "/openapi.json"} & set(guarded())
