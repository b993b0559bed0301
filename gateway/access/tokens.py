"""Session tokens and container credentials: derived from one secret, never stored (spec rows E1, E3).

``token = HMAC(secret, purpose | session id | serial)``: any process that has the secret makes the same token, and the
log holds only its SHA-256. Compared in constant time.
"""

import base64
import hashlib
import hmac
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from gateway.errors import Refused
from gateway.settings import BadSettings
from projections.session_state import Token

PREFIX: Final = "gwt_"
USERNAME: Final = "opencode"  # of the container's Basic credential
SECRET_BYTES: Final = 32
SEAL_BYTES: Final = 16


class BadSecretFile(BadSettings):
    """A file that should hold a secret of ours holds something else. One sentence, nothing of the content."""


class Secret(msgspec.Struct, frozen=True):
    """A secret and its public name."""

    value: bytes
    id: str

    @staticmethod
    def of(value: bytes) -> "Secret":
        return Secret(value, hashlib.sha256(b"session-gateway/secret-id\0" + value).hexdigest()[:12])


def load_secret(setting: str, file: Path) -> Secret:
    """The secret that a setting gives; ``auto``: 64 random hex digits in ``file`` (0600), made when absent.

    The file's text given as the setting is the same secret.

    Two processes that start at once get the same one: only one of them can create the file. Raises BadSecretFile.
    """
    if setting != "auto":
        return Secret.of(setting.encode())
    if not file.exists():
        _make_secret(file)
    return Secret.of(_read_secret(file))


def _make_secret(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A name of its own (0600): in containers every gateway is process 1, and a second writer of the same file would
    # empty the secret that the first one has just linked.
    descriptor, fresh = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w") as written:
            written.write(os.urandom(SECRET_BYTES).hex())
            written.flush()
            os.fsync(written.fileno())
        os.link(fresh, file)
    except FileExistsError:
        pass  # another process was first
    finally:
        os.unlink(fresh)


def _read_secret(file: Path) -> bytes:
    """With a short key, or none, everybody could make tokens."""
    text = file.read_text().strip()
    try:
        known = len(bytes.fromhex(text))
    except ValueError:
        known = 0
    if known < SECRET_BYTES:
        raise BadSecretFile([f"{file} does not hold {SECRET_BYTES} bytes in hexadecimal: restore it, or remove it."])
    return text.encode()


class Tokens:
    """Makes and checks session tokens; makes container credentials."""

    def __init__(self, secret: Secret, length: int) -> None:
        self._secret = secret
        self._length = length

    @property
    def secret_id(self) -> str:
        return self._secret.id

    def token(self, session_id: str, serial: int) -> str:
        """The session's ``serial``-th token."""
        return PREFIX + self._derive(f"session-token|{session_id}|{serial}")[: self._length]

    def credential(self, container: str) -> str:
        """The password that a container asks for; known to it and to the gateway alone."""
        return self._derive(f"container-credential|{container}")[:43]

    def authorization(self, container: str) -> bytes:
        """The header value that opens the container."""
        return b"Basic " + base64.b64encode(f"{USERNAME}:{self.credential(container)}".encode())

    def repeat_id(self, key_id: str, idempotency_key: str) -> UUID:
        """The same for every repeat of a request, on every worker; keyed, since a frontend may put a name into it."""
        raw = hmac.digest(
            self._secret.value, f"idempotency|{len(key_id)}:{key_id}|{idempotency_key}".encode(), hashlib.sha256
        )
        return UUID(bytes=raw[:16], version=5)

    def seal_of(self, kind: str, body: bytes) -> bytes:
        """What shows that we made ``body``, which somebody else keeps for us: 16 bytes, the same on every worker."""
        return hmac.digest(self._secret.value, f"seal|{len(kind)}:{kind}|".encode() + body, hashlib.sha256)[:SEAL_BYTES]

    def _derive(self, purpose: str) -> str:
        raw = hmac.digest(self._secret.value, purpose.encode(), hashlib.sha512)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def check(presented: str | None, token: Token | None, now: datetime) -> Refused | None:
    """Why ``presented`` does not open the session whose token in force is ``token``; None when it does."""
    if not presented:
        return Refused("no-credential", "Send the session's token as a bearer, or as a websocket subprotocol.")
    if token is None or not hmac.compare_digest(sha256(presented), token.sha256):
        return Refused("bad-credential", "This is not the token of this session.")
    if token.revoked:
        return Refused("revoked-credential", "The session has ended, and its token with it.")
    if now >= token.expires_at:
        return Refused("expired-credential", "The session's token has expired; resume or rotate to get another.")
    return None
