"""Open, see, stop, resume over HTTP, on a whole gateway with echo agents."""

from collections.abc import AsyncIterator

from gateway.access.roles import Role
from tests.gateway_fixtures import WAIT, WHY, Gateway


async def test_open_answers_at_once_and_waits_when_asked(gateway: Gateway) -> None:
    """202 while it is made, 201 with ``Prefer: wait`` once it can be used."""
    at_once = await gateway.client.post("/sessions")
    assert (at_once.status_code, at_once.json()["status"]) == (202, "creating")
    waited = await gateway.client.post("/sessions", headers=WAIT)
    assert (waited.status_code, waited.json()["status"]) == (201, "running")
    assert waited.headers["location"] == waited.json()["links"]["self"]
    assert waited.headers["cache-control"] == "no-store"


async def test_a_repeated_idempotency_key_is_the_same_session(gateway: Gateway) -> None:
    """Same key and body: the same session and token, one seat; another body: refused and nothing done."""
    body, repeat = {"owner": "ada", "metadata": {"b": 1, "a": [2]}}, {"idempotency-key": "once"}
    first, second = [await gateway.client.post("/sessions", json=body, headers=repeat) for _ in range(2)]
    assert second.json() | {"status": "", "position": 0} == first.json() | {"status": "", "position": 0}
    other = await gateway.client.post("/sessions", json={"owner": "bob"}, headers=repeat)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-mismatch")
    assert len(await gateway.log("session.requested")) == 1


async def test_an_idempotency_key_is_its_callers_own(gateway: Gateway) -> None:
    """Two frontends that choose the same key have two sessions."""
    repeat = {"idempotency-key": "once"}
    one = await gateway.client.post("/sessions", headers=repeat)
    other = await gateway.client.post("/sessions", headers={**repeat, **await gateway.key(Role.FRONTEND)})
    assert one.json()["session_id"] != other.json()["session_id"]


async def test_a_stopped_session_is_resumed_on_its_data(gateway: Gateway) -> None:
    """Same id, next generation, new token; the agent finds its conversation; the old token opens nothing."""
    session = await gateway.open()
    made = await gateway.client.post(session.path("session"), json={"title": "t"}, headers=session.headers)
    await gateway.stop(session)
    assert (await gateway.client.get(session.path("session"), headers=session.headers)).status_code == 401
    resumed = await gateway.client.post(f"/sessions/{session.session_id}/resume", headers=WAIT)
    assert (resumed.status_code, resumed.json()["session_id"]) == (201, session.session_id)
    again = {"authorization": f"Bearer {resumed.json()['token']}"}
    listed = await gateway.client.get(session.path("session"), headers=again)
    assert [each["id"] for each in listed.json()] == [made.json()["id"]]
    shown = await gateway.client.get(f"/sessions/{session.session_id}")
    assert (shown.json()["generation"], shown.json()["status"]) == (2, "running")


async def test_stopping_is_idempotent(gateway: Gateway) -> None:
    session = await gateway.open()
    await gateway.stop(session)
    again = await gateway.client.delete(f"/sessions/{session.session_id}")
    assert (again.status_code, again.json()["status"]) == (200, "stopped")
    assert len(await gateway.log("session.stop_requested")) == 1


async def test_a_session_told_to_stop_while_it_boots_stops(gateway: Gateway) -> None:
    """The boot is given up; no process, no seat stays behind."""
    opened = await gateway.client.post("/sessions")
    session_id = opened.json()["session_id"]
    stopped = await gateway.client.delete(f"/sessions/{session_id}", headers=WAIT)
    assert (stopped.status_code, stopped.json()["status"]) == (200, "stopped")
    assert await gateway.services.docker.list_containers(all=True) == []
    assert gateway.services.views.seats.taken == {}


async def test_seats_are_limited(gateway: Gateway) -> None:
    """The fourth session is refused with what to do; a seat is free again when one ends."""
    sessions = [await gateway.open() for _ in range(3)]
    refused = await gateway.client.post("/sessions")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["type"] == "/problems/too-many-sessions"
    (denied,) = await gateway.payloads("admission.denied")
    assert (denied.taken, denied.limit) == (3, 3)
    await gateway.stop(sessions[0])
    await gateway.open()


async def test_a_session_as_of_then(gateway: Gateway) -> None:
    """By position and by time: what ``GET`` answered then."""
    session = await gateway.open({"owner": "ada"})
    then = (await gateway.client.get(f"/sessions/{session.session_id}")).json()
    position = gateway.services.views.position
    await gateway.stop(session)
    moment = (await gateway.services.store.read_log(after=position - 1, limit=1))[0].recorded_at.isoformat()
    for as_of in (str(position), moment):
        again = await gateway.client.get(f"/sessions/{session.session_id}", params={"as_of": as_of}, headers=WHY)
        assert (again.json(), again.headers["as-of-position"]) == (then, str(position))
        listed = await gateway.client.get("/sessions", params={"as_of": as_of})
        assert listed.json()["sessions"] == [then]
    assert len(await gateway.log("log.read")) == 4


async def test_a_moment_that_is_none_is_refused(gateway: Gateway) -> None:
    session = await gateway.open()
    for as_of in ("yesterday", "2026-01-18", "2026-01-18T22:29:04", "-1"):
        answer = await gateway.client.get(f"/sessions/{session.session_id}", params={"as_of": as_of})
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), as_of


async def test_min_position_waits_for_the_log(gateway: Gateway) -> None:
    """A position that the log has not reached is refused; one that it has is honoured."""
    session = await gateway.open()
    path, position = f"/sessions/{session.session_id}", gateway.services.views.position
    assert (await gateway.client.get(path, params={"min_position": position})).status_code == 200
    beyond = await gateway.client.get(path, params={"min_position": position + 1000})
    assert (beyond.status_code, beyond.json()["type"]) == (503, "/problems/view-behind")


async def test_frontends_see_only_their_own(gateway: Gateway) -> None:
    """Another frontend's session answers as if it did not exist, and the attempt is an event (row E7)."""
    mine, theirs = await gateway.key(Role.FRONTEND, "mine"), await gateway.key(Role.FRONTEND, "theirs")
    session = await gateway.open(headers=mine)
    path = f"/sessions/{session.session_id}"
    attempts: list[tuple[str, str]] = [
        ("GET", path),
        ("DELETE", path),
        ("POST", f"{path}/resume"),
        ("POST", f"{path}/token"),
        ("GET", f"{path}/progress"),
    ]
    for method, attempt in attempts:
        answer = await gateway.client.request(method, attempt, headers=theirs)
        assert (answer.status_code, answer.json()["detail"]) == (404, "No such session."), attempt
    assert (await gateway.client.get("/sessions", headers=theirs)).json()["sessions"] == []
    assert len((await gateway.client.get("/sessions", headers=mine)).json()["sessions"]) == 1
    denials = await gateway.payloads("access.denied")
    assert [(denial.reason, denial.session_id) for denial in denials] == [("not_owner", session.session_id)] * 5


async def test_a_token_is_shown_again_as_an_event(gateway: Gateway) -> None:
    session = await gateway.open()
    shown = await gateway.client.post(f"/sessions/{session.session_id}/token")
    assert shown.json()["token"] == session.token
    assert len(await gateway.log("token.revealed")) == 1


async def test_bad_bodies_are_refused_clearly(gateway: Gateway) -> None:
    """Whose fault it is, and nothing done."""
    cases: list[tuple[bytes, int, str]] = [
        (b"{", 400, "bad-json"),
        (b"\xff", 400, "bad-json"),
        (b'{"metadata": {"x": ' + b"[" * 10_000, 400, "bad-json"),
        (b"[]", 422, "invalid-body"),
        (b'{"owner": 3}', 422, "invalid-body"),
        (b'{"onwer": "ada"}', 422, "invalid-body"),
        (b'{"image": "nobody/knows:1"}', 422, "image-not-allowed"),
        (b'{"metadata": {"x": "' + b"y" * 20_000 + b'"}}', 422, "invalid-body"),
        (b'{"metadata": {"x": "' + b"y" * 70_000 + b'"}}', 413, "body-too-large"),
    ]
    for content, status, slug in cases:
        answer = await gateway.client.post("/sessions", content=content)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), content[:40]
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"]
    assert await gateway.log("session.requested") == []


async def test_an_endless_body_is_cut(gateway: Gateway) -> None:
    """Without a declared length the limit still holds."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1024

    answer = await gateway.client.post("/sessions", content=endless())
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


async def test_every_reading_by_an_auditor_is_an_event(gateway: Gateway) -> None:
    """Sessions and their progress are the log's content too; the log says who looked at whose session."""
    session, auditor = await gateway.open(), await gateway.key(Role.AUDITOR, "eve")
    await gateway.client.get("/sessions", headers=auditor)
    await gateway.client.get(f"/sessions/{session.session_id}", headers=auditor | WHY)
    for path in (f"/sessions/{session.session_id}/progress", "/sessions/stream"):
        async with gateway.client.stream("GET", path, headers=auditor | WHY) as answer:
            assert answer.status_code == 200
    read = await gateway.payloads("log.read")
    begun = [(each.what, each.session_id) for each in read if each.until is None or each.what == "sessions"]
    assert begun == [
        ("sessions", None),
        ("session", session.session_id),
        ("progress", session.session_id),
        ("all_progress", None),
    ]
