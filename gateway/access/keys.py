"""API keys: made, hashed, recognised. ``gwk_<key id>_<43 characters>``; the log holds only the SHA-256 (row E4)."""

import hmac
import os
import secrets
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from events.catalogue import ApiKeyCreated, ApiKeyRevoked
from gateway.access.roles import Role
from gateway.access.tokens import sha256
from gateway.errors import Refused
from projections.api_keys import ApiKey
from projections.views import Views

PREFIX: Final = "gwk_"


class NewKey(msgspec.Struct, frozen=True):
    """A fresh key: shown once, then only its hash is left."""

    key: str
    created: ApiKeyCreated


def new_key(name: str, role: Role, expires_at: datetime | None = None) -> NewKey:
    key_id = "k" + secrets.token_hex(6)
    key = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
    return NewKey(
        key, ApiKeyCreated(key_id=key_id, name=name, role=role.value, sha256=sha256(key), expires_at=expires_at)
    )


def key_id_of(presented: str) -> str | None:
    """The key id inside a key's text; None when it is no key of ours."""
    if not presented.startswith(PREFIX):
        return None
    key_id, _, secret = presented[len(PREFIX) :].partition("_")
    return key_id if secret else None


def proved(presented: str, views: Views) -> ApiKey | None:
    """The key that ``presented`` is, in force or not; None when it is none of ours."""
    known = views.api_keys.get(key_id_of(presented) or "")
    return known if known is not None and hmac.compare_digest(sha256(presented), known.sha256) else None


def check(presented: str, views: Views, now: datetime) -> ApiKey | Refused:
    """The key behind ``presented``, or why it opens nothing."""
    known = proved(presented, views)
    if known is None:
        return Refused("bad-credential", "This API key is not known here.")
    if known.revoked_at is not None:
        return Refused("revoked-credential", "This API key was revoked.")
    if known.expires_at is not None and now >= known.expires_at:
        return Refused("expired-credential", "This API key has expired.")
    return known


def in_force(key_id: str, views: Views, now: datetime) -> bool:
    """Whether a key that was recognised before still opens anything, as far as this process knows."""
    known = views.api_keys.get(key_id)
    return known is None or (known.revoked_at is None and (known.expires_at is None or now < known.expires_at))


def write_key_file(file: Path, key: str) -> None:
    """The key alone on one line, readable by its owner only; replaces an old one whole."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, fresh = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w") as written:
            written.write(key + "\n")
        os.replace(fresh, file)
    except OSError:
        os.unlink(fresh)
        raise


def revoked(key_id: str) -> ApiKeyRevoked:
    return ApiKeyRevoked(key_id=key_id)
