"""Who read a session: its owner's frontend, auditors and operators see it, whole and in order, and nobody else."""

from typing import Any

import pytest

from events.catalogue import LogRead
from events.envelope import SYSTEM, ActorKind
from gateway.access.roles import Role
from gateway.api.access_history import Reading, Subject, scope_of
from gateway.recorder import Who
from tests.gateway_fixtures import WHY, Gateway, Session, placed

SUBJECT = Subject(session_id="ses_1", streams=frozenset(["session-ses_1", "container-c1"]), begun=10)


async def history(gateway: Gateway, session: Session, headers: dict[str, str], **query: Any) -> dict[str, Any]:
    answer = await gateway.client.get(f"/sessions/{session.session_id}/access-history", headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_the_owner_sees_who_read_what_and_why(gateway: Gateway) -> None:
    mine, auditor = await gateway.key(Role.FRONTEND, "chat"), await gateway.key(Role.AUDITOR, "eve")
    session, other = await gateway.open({"owner": "ada"}, headers=mine), await gateway.open()
    one, head = f"/sessions/{session.session_id}", gateway.services.views.position
    why = {"x-audit-purpose": "complaint 4711", "x-on-behalf-of": "bob"}
    for path in (one, f"{one}?as_of={head}", f"/events?session={session.session_id}&limit=2", "/sessions"):
        assert (await gateway.client.get(path, headers=auditor | why)).status_code == 200, path
    for path in (f"/sessions/{other.session_id}", "/events?type=gateway.*", "/events?stream=keys", "/events?until=3"):
        assert (await gateway.client.get(path, headers=auditor | why)).status_code == 200, path
    assert (await gateway.client.get("/events?limit=1000")).status_code == 200
    assert (await gateway.client.get(one, headers=mine)).status_code == 200, "which is no audit"
    told = (await history(gateway, session, mine))["reads"]
    assert [(read["scope"], read["what"], read["purpose"]) for read in told] == [
        ("session", "session", "complaint 4711"),
        ("session", "as_of", "complaint 4711"),
        ("session", "events", "complaint 4711"),
        ("everything", "sessions", "complaint 4711"),
        ("everything", "events", None),
    ]
    reader = told[0]["reader"]
    assert (reader["kind"], reader["id"], reader["on_behalf_of"]) == ("key", "eve", "bob")
    assert (told[1]["until"], told[2]["after"]) == (head, 0)
    assert [read["position"] for read in told] == sorted(read["position"] for read in told)
    assert await gateway.services.keyring.erase("ada")
    told = (await history(gateway, session, mine))["reads"]
    assert [read["purpose"] for read in told[:3]] == ["[erased]"] * 3, "sealed for the owner, gone with the owner"


async def test_looking_at_who_read_is_a_reading_too(gateway: Gateway) -> None:
    """Of auditors and operators, who say why; the owner's frontend leaves no trace in it."""
    mine, auditor = await gateway.key(Role.FRONTEND, "chat"), await gateway.key(Role.AUDITOR, "eve")
    session = await gateway.open(headers=mine)
    for headers in (auditor, dict[str, str]()):
        refused = await gateway.client.get(f"/sessions/{session.session_id}/access-history", headers=headers)
        assert refused.json()["type"] == "/problems/purpose-required"
        await history(gateway, session, headers | WHY)
    await history(gateway, session, mine)
    told = (await history(gateway, session, mine))["reads"]
    assert [(read["what"], read["scope"], read["reader"]["id"]) for read in told] == [
        ("access_history", "session", "eve"),
        ("access_history", "session", "operator"),
    ]


async def test_another_frontend_sees_nothing(gateway: Gateway) -> None:
    mine, theirs = await gateway.key(Role.FRONTEND, "mine"), await gateway.key(Role.FRONTEND, "theirs")
    session = await gateway.open(headers=mine)
    answer = await gateway.client.get(f"/sessions/{session.session_id}/access-history", headers=theirs)
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/session-unknown")


async def test_pages_are_whole_and_go_on_with_what_comes_later(gateway: Gateway) -> None:
    mine, auditor = await gateway.key(Role.FRONTEND, "chat"), await gateway.key(Role.AUDITOR, "eve")
    session, other = await gateway.open(headers=mine), await gateway.open(headers=mine)
    who = Who(kind=ActorKind.OPERATOR, id="test")
    for number in range(12):
        read = LogRead(what="test", after=number, session_id=(session if number % 3 else other).session_id)
        await placed(gateway.services.recorder.fact(SYSTEM, read, who=who))
    whole = await history(gateway, session, mine)
    assert [read["after"] for read in whole["reads"]] == [1, 2, 4, 5, 7, 8, 10, 11]
    for limit in (1, 3, 8):
        page = await history(gateway, session, mine, limit=limit)
        got = list(page["reads"])
        while not page["complete"]:
            page = await history(gateway, session, mine, limit=limit, cursor=page["cursor"])
            got += page["reads"]
        assert got == whole["reads"]
    assert (await gateway.client.get(f"/sessions/{session.session_id}", headers=auditor | WHY)).status_code == 200
    later = await history(gateway, session, mine, cursor=page["cursor"])
    assert [read["what"] for read in later["reads"]] == ["session"]
    foreign = await gateway.client.get(
        f"/sessions/{other.session_id}/access-history", headers=mine, params={"cursor": page["cursor"]}
    )
    assert foreign.json()["type"] == "/problems/bad-cursor"


@pytest.mark.parametrize(
    ("read", "scope"),
    [
        (Reading(session_id="ses_1"), "session"),
        (Reading(session_id="ses_1", until=3), "session"),
        (Reading(stream="session-ses_1"), "session"),
        (Reading(stream="container-c1"), "session"),
        (Reading(session_id="ses_2"), None),
        (Reading(stream="session-ses_2"), None),
        (Reading(stream="container-c2", types=("exchange.*",)), None),
        (Reading(stream="keys"), None),
        (Reading(stream="gateway-g1"), None),
        (Reading(), "everything"),
        (Reading(after=0, until=10), "everything"),
        (Reading(until=9), None),
        (Reading(stream="admission"), "everything"),
        (Reading(stream="system"), "everything"),
        (Reading(types=("exchange.completed",)), "everything"),
        (Reading(types=("session.*", "keys.*")), "everything"),
        (Reading(types=("admission.granted",)), "everything"),
        (Reading(types=("access.denied",)), "everything"),
        (Reading(types=("api_key.*", "gateway.*")), None),
    ],
)
def test_what_concerns_a_session(read: Reading, scope: str | None) -> None:
    assert scope_of(read, SUBJECT) == scope
