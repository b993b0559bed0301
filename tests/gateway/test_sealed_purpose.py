"""Purposes in the log: sealed for the person whose session was read."""

from events.envelope import Sealed
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from events.sealing import Place, seal, unseal
from gateway import sealed_purpose
from gateway.recorder import Recorder, session_subject
from projections.session_state import SessionState

OWNER_PLACE = Place("session-ses_1", "session.requested", "owner")


def recorder() -> Recorder:
    return Recorder(MemoryEventStore(), MemoryKeyring())


async def test_it_is_sealed_for_the_owner_and_goes_with_an_erasure() -> None:
    writer = recorder()
    key = await writer.keyring.key_for("ada")
    session = SessionState(session_id="ses_1", owner=seal(key, "ada", OWNER_PLACE))
    sealed = await sealed_purpose.sealed(writer, "a complaint", session)
    assert isinstance(sealed, Sealed)
    assert (sealed.k, unseal(key, sealed, sealed_purpose.PLACE)) == (key.id, "a complaint")
    await writer.keyring.erase("ada")
    later = await sealed_purpose.sealed(writer, "another", session)
    assert isinstance(later, Sealed)
    assert later.k != key.id and await writer.keyring.keys([later.k]) == {}, "a key that nobody keeps"


async def test_a_session_of_nobody_has_a_key_of_its_own() -> None:
    writer, session = recorder(), SessionState(session_id="ses_1")
    key = await writer.keyring.key_for(session_subject("ses_1"))  # as at its opening
    sealed = await sealed_purpose.sealed(writer, "a complaint", session)
    assert isinstance(sealed, Sealed) and unseal(key, sealed, sealed_purpose.PLACE) == "a complaint"
    await writer.keyring.erase(session_subject("ses_1"))
    later = await sealed_purpose.sealed(writer, "another", session)
    assert isinstance(later, Sealed) and await writer.keyring.keys([later.k]) == {}
    assert await writer.keyring.key_of(session_subject("ses_1")) is None, "the erasure is not undone"


async def test_where_nobodys_session_is_read_it_stands_in_clear() -> None:
    assert await sealed_purpose.sealed(recorder(), "yearly review", None) == "yearly review"
    assert await sealed_purpose.sealed(recorder(), None, SessionState(session_id="ses_1")) is None


async def test_of_a_session_without_a_known_owner_nobody_can_open_it() -> None:
    """In clear it would be the one text about somebody that no erasure reaches."""
    lost = sealed_purpose.lost("a complaint")
    assert isinstance(lost, Sealed) and await recorder().keyring.keys([lost.k]) == {}
    assert sealed_purpose.lost(None) is None
