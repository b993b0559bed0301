"""The timeline of a session over HTTP: whole, as of then, and to each reader what is his business."""

from typing import Any, Final

import pytest

from events.catalogue import AccessDenied
from events.envelope import ANY, SYSTEM, ActorKind, StreamWrite
from gateway.access.roles import Role
from gateway.api import timeline
from gateway.recorder import Who
from gateway.sessions.commands import StopSession
from gateway.sessions.handler import Origin
from tests.factories import event, payload
from tests.gateway.clients import nobody
from tests.gateway_fixtures import Gateway, Session

PURPOSE: Final = {"x-audit-purpose": "complaint 4711"}
PERSON: Final = {"x-on-behalf-of": "ada"}


async def told(gateway: Gateway, session: Session, query: str = "", **headers: str) -> dict[str, Any]:
    path = f"/sessions/{session.session_id}/timeline{query}"
    answer = await gateway.client.get(path, headers={**PURPOSE, **headers})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in document["entries"] if entry["kind"] == "step"]


async def used(gateway: Gateway, headers: dict[str, str] | None = None) -> Session:
    """A session that was opened, used and stopped."""
    session = await gateway.open(headers=headers)
    async with nobody(gateway) as client:
        for _ in range(3):
            await client.get(session.path("echo"), headers=session.headers)
        await client.get(session.path("echo"), headers={"authorization": "Bearer gwt_wrong"})
    assert await gateway.services.exchanges.flush(5)
    await gateway.stop(session)
    return session


async def test_a_session_from_its_request_to_its_end(gateway: Gateway) -> None:
    session = await used(gateway)
    document = await told(gateway, session)
    assert [entry["type"] for entry in steps(document)] == [
        "session.requested",
        "token.issued",
        "admission.granted",
        "container.created",
        "container.started",
        "session.ready",
        "session.stop_requested",
        "token.revoked",
        "container.removed",
        "session.stopped",
        "admission.released",
    ]
    phases = [entry["phase"] for entry in steps(document)]
    assert phases == ["creating"] * 5 + ["ready"] + ["stopping"] * 3 + ["stopped"] * 2
    assert (document["phase"], document["complete"], document["cursor"]) == ("stopped", True, None)
    uses = [entry for entry in document["entries"] if entry["kind"] == "use"]
    assert sum(entry["exchanges"] for entry in uses) == 3
    assert [entry["denials"] for entry in uses if entry["denials"]] == [{"bad_credential": 1}]
    assert sum(entry["bytes_out"] for entry in uses) > 0
    stop = next(entry for entry in steps(document) if entry["type"] == "session.stop_requested")
    assert stop["reason"] == "asked" and stop["who"]["id"] == "operator" and stop["trace_id"]
    positions = [entry.get("position") or entry["first_position"] for entry in document["entries"]]
    assert positions == sorted(positions)


async def test_then_is_the_beginning_of_now(gateway: Gateway) -> None:
    session = await used(gateway)
    (ready,) = await gateway.log("session.ready")
    whole = await told(gateway, session)
    then = await told(gateway, session, f"?as_of={ready.position}")
    assert (then["position"], then["phase"]) == (ready.position, "ready")
    assert then["entries"] == whole["entries"][: len(then["entries"])]
    path = f"/sessions/{session.session_id}/timeline"
    before = await gateway.client.get(f"{path}?as_of=1", headers=PURPOSE)
    assert (before.status_code, before.json()["type"]) == (404, "/problems/session-unknown")
    assert (await gateway.client.get(f"{path}?as_of=then", headers=PURPOSE)).status_code == 400


async def test_auditors_and_operators_say_why_and_are_recorded_a_frontend_is_not(gateway: Gateway) -> None:
    mine, auditor = await gateway.key(Role.FRONTEND, "mine"), await gateway.key(Role.AUDITOR, "auditor")
    session = await used(gateway, mine)
    path = f"/sessions/{session.session_id}/timeline"
    for headers in (auditor, {}):
        answer = await gateway.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/purpose-required")
    assert (await gateway.client.get(path, headers=mine)).status_code == 200
    assert await gateway.log("log.read") == []
    await told(gateway, session)
    await told(gateway, session, **auditor)
    reads = await gateway.payloads("log.read")
    assert [(read.what, read.session_id) for read in reads] == [("timeline", session.session_id)] * 2


async def test_a_frontend_sees_its_users_and_not_who_else_did_what(gateway: Gateway) -> None:
    """An operator stopped it: that is told, his name and whom he acted for are not. Denials are for auditors."""
    mine = await gateway.key(Role.FRONTEND, "mine")
    session = await gateway.open(headers=mine | PERSON)
    async with nobody(gateway) as client:
        await client.get(session.path("echo"), headers={"authorization": "Bearer gwt_wrong"})
    stop = StopSession(session_id=session.session_id)
    who = Who(kind=ActorKind.KEY, id="night-shift", key_id="k-other", person="bob")
    await gateway.services.handler.handle(stop, Origin(who=who))
    own = await told(gateway, session, **mine)
    doers = {entry["type"]: entry["who"] for entry in steps(own)}
    assert doers["session.requested"] == {"kind": "key", "id": "mine", "on_behalf_of": "ada"}
    assert doers["session.stop_requested"] == {"kind": "key", "id": None, "on_behalf_of": None}
    assert doers["session.ready"] == {"kind": "gateway", "id": None, "on_behalf_of": None}
    assert all(entry["denials"] == {} for entry in own["entries"] if entry["kind"] == "use")
    text = str(own)
    for hidden in ("night-shift", "bob", gateway.services.instance, "sha256", session.token, "127.0.0."):
        assert hidden not in text
    document = await told(gateway, session)
    whole = {entry["type"]: entry["who"] for entry in steps(document)}
    assert whole["session.stop_requested"] == {"kind": "key", "id": "night-shift", "on_behalf_of": "bob"}
    assert [entry["denials"] for entry in document["entries"] if entry["kind"] == "use"] == [{"bad_credential": 1}]


async def test_another_frontends_session_does_not_exist(gateway: Gateway) -> None:
    session = await gateway.open(headers=await gateway.key(Role.FRONTEND, "theirs"))
    mine = await gateway.key(Role.FRONTEND, "mine")
    answer = await gateway.client.get(f"/sessions/{session.session_id}/timeline", headers=mine)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/session-unknown")


async def test_nobody_can_push_the_end_of_a_session_out_of_its_timeline(gateway: Gateway) -> None:
    """More denials than a timeline has entries are a count; the stop after them is there."""
    session = await gateway.open()
    denied = payload(AccessDenied, session_id=session.session_id, reason="no_credential", client=None)
    for _ in range(26):
        await gateway.services.store.append(StreamWrite(SYSTEM, ANY, tuple(event(denied) for _ in range(100))))
    await gateway.stop(session)
    document = await told(gateway, session)
    assert (document["phase"], document["complete"]) == ("stopped", True)
    assert [entry["denials"] for entry in document["entries"] if entry["kind"] == "use"] == [{"no_credential": 2600}]
    assert steps(document)[-1]["type"] == "admission.released"


@pytest.mark.parametrize("role", [Role.FRONTEND, Role.AUDITOR])
async def test_a_part_tells_the_phase_where_it_ends_and_goes_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    """Of a session that was stopped since; what comes after the first answer is of the next timeline."""
    mine = await gateway.key(Role.FRONTEND, "mine")
    session = await used(gateway, mine)
    headers = mine if role is Role.FRONTEND else await gateway.key(role, "auditor")
    whole = await told(gateway, session, **headers)
    monkeypatch.setattr(timeline, "PAGE", 2)
    monkeypatch.setattr(timeline, "SECONDS", -1.0)
    part = await told(gateway, session, f"?as_of={whole['position']}", **headers)
    assert (part["complete"], part["until"], part["phase"]) == (False, whole["until"], "creating")
    assert part["position"] == part["entries"][-1]["position"] < part["until"]
    entries = part["entries"]
    while not part["complete"]:
        before, part = part, await told(gateway, session, f"?cursor={part['cursor']}", **headers)
        assert part["position"] > before["position"] and part["until"] == whole["until"]
        entries += part["entries"]
    assert [entry for entry in entries if entry["kind"] != "use"] == [
        entry for entry in whole["entries"] if entry["kind"] != "use"
    ]
    assert sum(entry["exchanges"] for entry in entries if entry["kind"] == "use") == 3
    assert (part["phase"], part["position"], part["cursor"]) == ("stopped", whole["until"], None)
    if role is Role.AUDITOR:
        first, second, third, *_ = await gateway.payloads("log.read")
        assert (second.after, second.until) == (None, third.after), "each reading says what part it was of"
        assert first.until == whole["position"]


async def test_a_cursor_goes_on_for_the_same_session_and_reader_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await gateway.key(Role.FRONTEND, "mine")
    session, other = await used(gateway, mine), await gateway.open(headers=mine)
    monkeypatch.setattr(timeline, "PAGE", 2)
    monkeypatch.setattr(timeline, "SECONDS", -1.0)
    cursor = (await told(gateway, session, **mine))["cursor"]
    for of, query, headers, slug in (
        (other, f"?cursor={cursor}", mine, "bad-cursor"),
        (session, f"?cursor={cursor}", {}, "bad-cursor"),
        (session, f"?cursor={cursor[:-1]}", mine, "bad-cursor"),
        (session, f"?cursor={cursor}&as_of=5", mine, "bad-request"),
    ):
        path = f"/sessions/{of.session_id}/timeline{query}"
        answer = await gateway.client.get(path, headers={**PURPOSE, **headers})
        assert (answer.status_code, answer.json()["type"]) == (400, f"/problems/{slug}"), query
