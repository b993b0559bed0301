"""Shapes: what of a state or an event is shown, opened, or hidden."""

from typing import Any

import msgspec
import pytest

from events.catalogue import Payload, SessionFailed, SessionRequested
from events.keyring import MemoryKeyring
from events.sealing import ERASED, Place, seal, sealed_fields
from gateway.api import shapes
from gateway.api.shapes import CreateSession
from projections.lifecycle import STATUS, Phase
from projections.session_state import SessionState, Token
from tests.factories import FRONTEND, MOMENT, SAMPLES, recorded

STREAM = "session-s1"


async def sealed(keyring: MemoryKeyring, clear: str, field: str, event_type: str = "session.requested") -> Any:
    return seal(await keyring.key_for("ada"), clear, Place(STREAM, event_type, field))


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ({}, True),
        ({"image": "i", "owner": "o", "metadata": {}}, True),
        ({"image": None, "owner": None, "metadata": None}, True),
        ({"owner": "x" * 200}, True),
        ({"owner": "x" * 201}, False),
        ({"owner": ""}, False),
        ({"image": ""}, False),
        ({"metadata": []}, False),
        ({"metadata": "x"}, False),
        ({"token": "mine"}, False),
    ],
)
def test_a_body_is_what_the_document_says(body: dict[str, Any], taken: bool) -> None:
    """Unknown fields are refused: a misspelt owner would be a session that belongs to nobody."""
    raw = msgspec.json.encode(body)
    if taken:
        assert isinstance(msgspec.json.decode(raw, type=CreateSession), CreateSession)
    else:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(raw, type=CreateSession)


async def test_personal_fields_are_opened_while_their_key_exists() -> None:
    keyring = MemoryKeyring()
    state = SessionState(
        session_id="s1",
        phase=Phase.READY,
        owner=await sealed(keyring, "ada", "owner"),
        metadata=await sealed(keyring, '{"room":"blue"}', "metadata"),
    )
    (view,) = await shapes.sessions([state], keyring)
    assert (view.owner, view.metadata) == ("ada", {"room": "blue"})
    await keyring.erase("ada")
    (view,) = await shapes.sessions([state], keyring)
    assert (view.owner, view.metadata) == (ERASED, ERASED)


async def test_a_session_of_nobody_has_no_owner() -> None:
    (view,) = await shapes.sessions([SessionState(session_id="s1", phase=Phase.READY)], MemoryKeyring())
    assert (view.owner, view.metadata, view.token_expires_at) == (None, None, None)


@pytest.mark.parametrize("phase", STATUS)
async def test_every_phase_has_one_of_the_four_words(phase: Phase) -> None:
    (view,) = await shapes.sessions([SessionState(session_id="s1", phase=phase)], MemoryKeyring())
    assert view.status in ("creating", "running", "stopped", "error")
    assert view.phase == phase.value


@pytest.mark.parametrize("revoked", [False, True])
async def test_only_a_token_in_force_has_an_end(revoked: bool) -> None:
    """Neither the token nor its hash is shown."""
    state = SessionState(session_id="s1", phase=Phase.READY, token=Token(1, "hash-of-it", "id", MOMENT, revoked))
    (view,) = await shapes.sessions([state], MemoryKeyring())
    assert view.token_expires_at == (None if revoked else MOMENT)
    assert b"hash-of-it" not in msgspec.json.encode(view)


@pytest.mark.parametrize("payload", SAMPLES.values(), ids=lambda payload: type(payload).__name__)
async def test_an_erased_event_is_shown_whole_but_for_what_was_sealed(payload: Payload) -> None:
    """Every type of the catalogue: each sealed field reads ``[erased]``, each other one as it stands."""
    event = recorded(payload, actor=FRONTEND)
    (view,) = await shapes.events([event], MemoryKeyring())
    hidden = sealed_fields(payload)
    raw = msgspec.json.decode(event.payload)
    assert view.payload == raw | dict.fromkeys(hidden, ERASED)
    assert view.actor["on_behalf_of"] == ERASED
    assert (view.position, view.type, view.version) == (event.position, event.type, event.version)


async def test_an_event_of_a_later_release_is_shown_as_it_stands() -> None:
    """An old process must not hide from an auditor what it does not understand."""
    event = msgspec.structs.replace(recorded(), type="session.cloned", payload=b'{"type":"session.cloned","x":1}')
    (view,) = await shapes.events([event], MemoryKeyring())
    assert (view.type, view.payload) == ("session.cloned", {"type": "session.cloned", "x": 1})


@pytest.mark.parametrize("payload", SAMPLES.values(), ids=lambda payload: type(payload).__name__)
def test_a_step_has_no_personal_field_and_no_secret(payload: Payload) -> None:
    """Of whatever type: frontends see steps, and pages show them to people."""
    event = recorded(payload)
    facts = shapes.progress(event, payload, "s1").facts
    assert not {*sealed_fields(payload), "sha256", "secret_id", "host", "port", "opened_by"} & set(facts)


def test_a_step_keeps_what_tells_its_owner_something() -> None:
    failed = SAMPLES[SessionFailed]
    facts = shapes.progress(recorded(failed), failed, "s1").facts
    assert {"generation", "reason", "detail"} <= set(facts)
    requested = SAMPLES[SessionRequested]
    assert "image" in shapes.progress(recorded(requested), requested, "s1").facts
