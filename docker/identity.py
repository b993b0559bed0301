"""The files of our side of the handshake: which of them are in use, and whether others have come.

Whoever is about to speak to the daemon asks for the identity in use; at most once a second that looks at the files.
Files may be replaced whole, with their folder, or one after the other: only what can be used is taken up, and until
then the identity before stays. An identity is never changed, only replaced: a TLS context that was told of another CA
would go on trusting the one before.
"""

import datetime as dt
import hashlib
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from docker.cert_files import Fault, Held, UnreadableFile, certificates, held, judged, weakness
from docker.cert_reading import read_file
from docker.errors import BadCertificateFiles
from docker.settings import DockerSettings, certificate_paths
from docker.tls import ssl_context

LOOK_SECONDS: Final = 1.0
_NAMES: Final = ("file of the CA", "client's certificate file", "client's key file")
_TRIES: Final = 5

Contents = tuple[bytes | None, bytes | None, bytes | None]


class Certificate(msgspec.Struct, frozen=True):
    """What names a certificate, and until when it holds."""

    sha256: str  # of its DER form, in hex
    not_after: dt.datetime


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What we trust and what we show the daemon."""

    context: ssl.SSLContext
    authorities: tuple[Certificate, ...]
    client: Certificate
    held: Held
    content: str  # a digest of the files


class Taken(msgspec.Struct, frozen=True):
    """New files are in use from here on."""

    before: Identity
    after: Identity


class Refused(msgspec.Struct, frozen=True):
    """New files cannot be used; ``reason`` is a word of ``certificate.refused``, ``detail`` a sentence."""

    content: str
    reason: str
    detail: str


class Credentials:
    """The identity in use. ``now`` judges what holds; ``monotonic`` says when to look at the files again."""

    def __init__(
        self,
        settings: DockerSettings,
        *,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._now, self._monotonic = settings, now, monotonic
        self._identity: Identity | None = None
        self._looked = 0.0
        self._seen: object = None  # what the file system said of the files at the last look
        self._settled = False  # it said so twice: the clock of a file may stand still for a write or two
        self._doubted = ""  # content that could not be used at the last look
        self._told: set[tuple[str, str]] = set()  # content and reason, of this episode
        self._held: tuple[str, Held | Fault] = ("", Fault("", ""))  # of the content that was judged last
        self._listeners: list[Callable[[Taken | Refused], object]] = []
        self.refused: Refused | None = None  # what lies there and is not used

    def on_change(self, listener: Callable[[Taken | Refused], object]) -> None:
        """``listener`` is told at once of files that are taken up, and of a content that is refused: once, until good
        ones have lain there in between."""
        self._listeners.append(listener)

    @property
    def in_use(self) -> Identity | None:
        """The one in use, without a look at the files; None before the first conversation. For any thread."""
        return self._identity

    def identity(self) -> Identity:
        """The one to begin a conversation with now. Raises BadCertificateFiles when there never was one."""
        moment = self._monotonic()
        if self._identity is None:
            self._identity, self._looked = self._first(), moment
        elif moment - self._looked >= LOOK_SECONDS:
            self._looked = moment
            self._look(self._identity)
        return self._identity

    def _first(self) -> Identity:
        """The daemon judges it: a start says more by its answer than a look at the files can."""
        for _ in range(_TRIES):
            found = self._made(_read(self._settings))
            if found is not None:
                return found
        raise BadCertificateFiles("The certificate files change faster than they can be read: try again.")

    def _made(self, contents: Contents) -> Identity | None:
        """None when the files changed meanwhile: what was judged is what is loaded, and nothing else."""
        context = ssl_context(self._settings)  # reads them once more, since OpenSSL takes a key from a file alone
        if _read(self._settings) != contents:
            return None
        authority, certificate, _ = contents
        try:
            authorities = certificates(authority or b"", "The file of the CA")
            chain = certificates(certificate or b"", "The client's certificate file")
        except UnreadableFile as error:
            raise BadCertificateFiles(str(error)) from error
        return Identity(
            context=context,
            authorities=tuple(map(_named, authorities)),
            client=_named(chain[0]),
            held=Held(tuple(chain), tuple(authorities)),
            content=_digest(contents),
        )

    def _look(self, current: Identity) -> None:
        seen = _seen(certificate_paths(self._settings))
        if seen == self._seen and self._settled and self.refused is None:
            return  # what was refused is judged again: its time may come
        self._seen, self._settled = seen, seen == self._seen
        contents = _read(self._settings)
        content = _digest(contents)
        if content == current.content:
            self._recovered()
            return
        try:
            found = self._judged(contents, content)
        except _Unusable as unusable:
            self._doubt(Refused(content, unusable.reason, unusable.detail))
            return
        if found is not None:
            self._recovered()
            self._identity = found
            self._tell(Taken(current, found))

    def _recovered(self) -> None:
        """What is bad again later is another episode."""
        self._doubted, self.refused = "", None
        self._told.clear()

    def _judged(self, contents: Contents, content: str) -> Identity | None:
        authority, certificate, key = contents
        if authority is None or certificate is None or key is None:
            absent = " and the ".join(name for name, held in zip(_NAMES, contents, strict=True) if held is None)
            raise _Unusable("unreadable", f"The {absent} cannot be read or is not there.")
        if self._held[0] != content:
            self._held = content, held(authority, certificate, key)
        found = self._held[1]
        fault = judged(found, self._now()) if isinstance(found, Held) else found
        if fault is not None:
            raise _Unusable(fault.reason, fault.detail)
        try:
            return self._made(contents)
        except BadCertificateFiles as error:
            if isinstance(found, Held) and (weak := next(filter(None, map(weakness, found.chain[1:])), "")):
                raise _Unusable("weak", f"A certificate behind the client's {weak}.") from error
            raise _Unusable("unreadable", "The files cannot be loaded together.") from error

    def _doubt(self, refused: Refused) -> None:
        """Refuse what is found twice: files that are copied one after the other do not fit for a moment."""
        if self._doubted != refused.content:
            self._doubted, self._settled = refused.content, False
            return
        self.refused = refused
        if (refused.content, refused.reason) not in self._told:
            self._told.add((refused.content, refused.reason))
            self._tell(refused)

    def _tell(self, change: Taken | Refused) -> None:
        for listener in self._listeners:
            listener(change)


class _Unusable(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def certificate_of(der: bytes) -> Certificate:
    """What names the certificate of these bytes. Raises ValueError."""
    return _named(x509.load_der_x509_certificate(der))


def _named(certificate: x509.Certificate) -> Certificate:
    return Certificate(certificate.fingerprint(hashes.SHA256()).hex(), certificate.not_valid_after_utc)


def _read(settings: DockerSettings) -> Contents:
    authority, certificate, key = (_content(path) for path in certificate_paths(settings))
    return authority, certificate, key


def _content(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except OSError:
        return None


def _digest(contents: Contents) -> str:
    parts = (hashlib.sha256(held).hexdigest() if held is not None else "none" for held in contents)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _seen(paths: Sequence[Path]) -> object:
    return [_status(path) for path in paths]


def _status(path: Path) -> tuple[int, ...]:
    """Follows links: a folder that is exchanged by one shows other files."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
