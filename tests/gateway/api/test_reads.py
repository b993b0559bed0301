"""Who reads one session says why, before anything is read; who reads their own, or none in particular, need not."""

from gateway.access.roles import Role
from tests.gateway_fixtures import WHY, Gateway


async def test_no_session_is_read_without_a_purpose(gateway: Gateway) -> None:
    """Nothing was read, so nothing is told as read."""
    session, auditor = await gateway.open(), await gateway.key(Role.AUDITOR)
    one, position = f"/sessions/{session.session_id}", gateway.services.views.position
    operator = dict[str, str]()
    for path, headers in [
        (one, auditor),
        (f"{one}?as_of={position}", auditor),
        (f"{one}?as_of={position}", operator),
        (f"{one}/progress", auditor),
        (one, auditor | {"x-audit-purpose": ""}),
    ]:
        answer = await gateway.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/purpose-required"), path
        assert "X-Audit-Purpose" in answer.json()["detail"]
    assert await gateway.log("log.read") == []


async def test_what_is_not_shown_is_not_told_as_read(gateway: Gateway) -> None:
    """A refusal among the readings would accuse somebody of what they did not see."""
    session = await gateway.open()
    for headers in (await gateway.key(Role.AUDITOR), dict[str, str]()):
        answer = await gateway.client.get(f"/sessions/{session.session_id}?as_of=1", headers=headers | WHY)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/session-unknown")
    assert await gateway.log("log.read") == []


async def test_a_purpose_is_one_line_of_utf_8(gateway: Gateway) -> None:
    """It is kept for ever and shown in lines; and nobody should write a report into a header."""
    session, auditor = await gateway.open(), await gateway.key(Role.AUDITOR)
    for raw in (b"\xff", b"x" * 501, b"a\tb", "a\u2028b".encode()):
        headers = [(name.encode(), value.encode()) for name, value in auditor.items()]
        answer = await gateway.client.get(
            f"/sessions/{session.session_id}", headers=[*headers, (b"x-audit-purpose", raw)]
        )
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), raw
    assert await gateway.log("log.read") == []


async def test_who_reads_their_own_or_no_session_in_particular_need_not_say_why(gateway: Gateway) -> None:
    mine, auditor = await gateway.key(Role.FRONTEND), await gateway.key(Role.AUDITOR)
    session = await gateway.open(headers=mine)
    one, position = f"/sessions/{session.session_id}", gateway.services.views.position
    reads = [(one, mine), (f"{one}?as_of={position}", mine), (one, {}), ("/sessions", auditor)]
    for path, headers in [*reads, (f"/sessions?as_of={position}", auditor | WHY)]:
        assert (await gateway.client.get(path, headers=headers)).status_code == 200, path
    told = await gateway.payloads("log.read")
    assert [(read.what, read.session_id, read.purpose) for read in told] == [
        ("sessions", None, None),
        ("as_of", None, "a test"),
    ]


async def test_a_purpose_is_sealed_for_the_owner(gateway: Gateway) -> None:
    """In the log's bytes it is nowhere; to auditors it is open until the owner is erased."""
    session, auditor = await gateway.open({"owner": "ada"}), await gateway.key(Role.AUDITOR)
    why = {b"x-audit-purpose": "Beschwerde über 4711".encode(), b"authorization": auditor["authorization"].encode()}
    assert (await gateway.client.get(f"/sessions/{session.session_id}", headers=why)).status_code == 200
    (event,) = await gateway.log("log.read")
    assert b"4711" not in event.payload
    shown = (await gateway.client.get("/events?type=log.read&limit=1")).json()["events"]
    assert shown[0]["payload"]["purpose"] == "Beschwerde über 4711"
    assert await gateway.services.keyring.erase("ada")
    shown = (await gateway.client.get("/events?type=log.read&limit=1")).json()["events"]
    assert shown[0]["payload"]["purpose"] == "[erased]"
