"""Sealed personal fields: AES-256-GCM, one key a subject, bound to the place they stand in.

Pure functions on keys that ``keyring`` keeps outside the log. Destroying a subject's key erases every field sealed
with it, in every backup of the log too, and every hash over the log still holds (spec row C7).
"""

import base64
import hashlib
import hmac
import os
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.envelope import Sealed
from events.errors import UnreadableEvent

NONCE_BYTES: Final = 12
ERASED: Final = "[erased]"


class SubjectKey(msgspec.Struct, frozen=True):
    """The key of one subject. ``id`` is random, so that the log names nobody."""

    id: str
    secret: bytes  # 32 bytes

    @staticmethod
    def new() -> "SubjectKey":
        return SubjectKey("sk_" + os.urandom(12).hex(), AESGCM.generate_key(256))


class Place(msgspec.Struct, frozen=True):
    """Where a sealed field stands; part of what is authenticated, so that it cannot be transplanted."""

    stream_id: str
    event_type: str
    field: str

    def additional_data(self) -> bytes:
        return msgspec.json.encode([self.stream_id, self.event_type, self.field])


def seal(key: SubjectKey, clear: str, place: Place) -> Sealed:
    nonce = os.urandom(NONCE_BYTES)
    sealed = AESGCM(key.secret).encrypt(nonce, clear.encode("utf-8", "surrogateescape"), place.additional_data())
    return Sealed(k=key.id, n=_text(nonce), c=_text(sealed))


def unseal(key: SubjectKey, sealed: Sealed, place: Place) -> str:
    """The clear text. Raises UnreadableEvent when it was altered or moved to another place."""
    try:
        clear = AESGCM(key.secret).decrypt(_bytes(sealed.n), _bytes(sealed.c), place.additional_data())
    except (InvalidTag, ValueError) as error:
        raise UnreadableEvent(f"a sealed field of {place.stream_id} ({place.field}) was altered or moved") from error
    return clear.decode("utf-8", "surrogateescape")


def wrap(sealing_secret: bytes, key: SubjectKey) -> bytes:
    """The subject's key as it may lie in a table: encrypted under the gateway's sealing secret."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(_derive(sealing_secret, b"wrap")).encrypt(nonce, key.secret, key.id.encode())


def unwrap(sealing_secret: bytes, key_id: str, wrapped: bytes) -> SubjectKey:
    """Raises UnreadableEvent when the sealing secret is not the one it was wrapped under."""
    try:
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        return SubjectKey(key_id, AESGCM(_derive(sealing_secret, b"wrap")).decrypt(nonce, sealed, key_id.encode()))
    except (InvalidTag, ValueError) as error:
        raise UnreadableEvent(f"subject key {key_id} was wrapped under another sealing secret") from error


def subject_tag(sealing_secret: bytes, subject: str) -> bytes:
    """Finds a subject's row without the table naming it: a keyed hash (32 bytes), useless without the secret."""
    return hmac.digest(_derive(sealing_secret, b"subject"), subject.encode(), hashlib.sha256)


def sealed_fields(payload: Any) -> dict[str, Sealed]:
    """The sealed fields of a payload by name; they always stand at its top."""
    found = ((name, getattr(payload, name)) for name in payload.__struct_fields__)
    return {name: value for name, value in found if isinstance(value, Sealed)}


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"session-gateway/sealing/" + purpose, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Raises ValueError for any spelling but the one of ``_text``: the decoder passes over strangers and spare bits."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _text(raw) != text:
        raise ValueError("not base64url as we write it")
    return raw
