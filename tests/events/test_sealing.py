"""Sealed personal fields: what opens them, what does not, and that the format stays."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import AccessDenied, ExchangeCompleted
from events.envelope import Sealed
from events.errors import UnreadableEvent
from events.sealing import Place, SubjectKey, seal, sealed_fields, subject_tag, unseal, unwrap, wrap
from tests.factories import KEY, SEALED, payload

PLACE = Place("session-s1", "session.requested", "owner")
SECRET = bytes(range(32))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
def test_sealed_field_opens_to_what_was_sealed(clear: str) -> None:
    """Also a file name that is not UTF-8, as Python hands it out."""
    key = SubjectKey.new()
    assert unseal(key, seal(key, clear, PLACE), PLACE) == clear


def test_field_sealed_by_the_first_release_opens() -> None:
    """The format is for ever: AES-256-GCM, base64url without padding, the place as a JSON list in its bound data."""
    assert unseal(KEY, SEALED, PLACE) == "Ada"


@pytest.mark.parametrize(
    "place",
    [
        Place("session-s2", "session.requested", "owner"),
        Place("session-s1", "session.resumed", "owner"),
        Place("session-s1", "session.requested", "metadata"),
        Place("session-s1session.requested", "", "owner"),
        Place("", "", ""),
    ],
)
def test_field_cannot_be_moved_to_another_place(place: Place) -> None:
    with pytest.raises(UnreadableEvent):
        unseal(KEY, SEALED, place)


@given(st.data())
def test_any_changed_character_is_noticed(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["n", "c"]))
    text = getattr(SEALED, name)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda character: character != text[at]))
    with pytest.raises(UnreadableEvent):
        unseal(KEY, msgspec.structs.replace(SEALED, **{name: text[:at] + other + text[at + 1 :]}), PLACE)


@pytest.mark.parametrize("name", ["n", "c"])
@pytest.mark.parametrize(
    "change", [lambda t: t + "=", lambda t: t + "!", lambda t: t[:-1], lambda t: "", lambda t: "é"]
)
def test_other_spellings_are_refused(name: str, change: "object") -> None:
    """A lenient decoder would let two different bytes in the log open to one text."""
    assert callable(change)
    with pytest.raises(UnreadableEvent):
        unseal(KEY, msgspec.structs.replace(SEALED, **{name: change(getattr(SEALED, name))}), PLACE)


def test_key_of_another_subject_does_not_open_it() -> None:
    with pytest.raises(UnreadableEvent):
        unseal(SubjectKey.new(), SEALED, PLACE)


def test_refusal_names_the_place_and_no_text() -> None:
    with pytest.raises(UnreadableEvent) as refused:
        unseal(SubjectKey.new(), SEALED, PLACE)
    assert "session-s1 (owner)" in str(refused.value)
    assert SEALED.c not in str(refused.value)


def test_two_seals_of_one_text_have_nothing_in_common() -> None:
    """Equal ciphertexts would tell who is who without any key."""
    one, two = seal(KEY, "Ada", PLACE), seal(KEY, "Ada", PLACE)
    assert one.k == two.k
    assert one.n != two.n and one.c != two.c


def test_key_ids_name_nobody() -> None:
    keys = [SubjectKey.new() for _ in range(100)]
    assert len({key.id for key in keys}) == len({key.secret for key in keys}) == 100
    assert all(len(key.secret) == 32 and key.id.startswith("sk_") for key in keys)


def test_wrapped_key_opens_under_its_secret_and_id_only() -> None:
    wrapped = wrap(SECRET, KEY)
    assert unwrap(SECRET, KEY.id, wrapped) == KEY
    assert KEY.secret not in wrapped
    for secret, key_id, stored in [
        (bytes(32), KEY.id, wrapped),
        (SECRET, "sk_other", wrapped),
        (SECRET, KEY.id, wrapped[:-1]),
        (SECRET, KEY.id, b"short"),
        (SECRET, KEY.id, b""),
    ]:
        with pytest.raises(UnreadableEvent):
            unwrap(secret, key_id, stored)


def test_subject_tag_needs_the_secret() -> None:
    """The table of keys names nobody, and a guessed name cannot be tried against it."""
    assert subject_tag(SECRET, "ada") == subject_tag(SECRET, "ada")
    assert len({subject_tag(SECRET, "ada"), subject_tag(bytes(32), "ada"), subject_tag(SECRET, "bob")}) == 3


def test_sealed_fields_are_found_by_name() -> None:
    assert sealed_fields(payload(ExchangeCompleted)) == {"path": SEALED, "client": SEALED}
    assert sealed_fields(payload(ExchangeCompleted, client=None)) == {"path": SEALED}
    assert sealed_fields(payload(AccessDenied, client=None)) == {}


def test_nonce_is_12_bytes_and_the_tag_16() -> None:
    """RFC 5116, 5.2: AEAD_AES_256_GCM."""
    made = seal(KEY, "x" * 10, PLACE)
    assert len(_raw(made.n)) == 12
    assert len(_raw(made.c)) == 26
    assert isinstance(made, Sealed)


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
