"""Which certificate files are there, and what each certificate says: a row a certificate.

On a gateway's machine lie the CA's certificate and the client's pair, on the daemon's machine the daemon's pair, where
they are made all of them: what is not there is not told. What is right or wrong with them is left to ``cert_checks``.
"""

import datetime as dt
import os
import stat
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from docker.cert_files import CLIENT, SERVER, UnreadableFile, certificates, extension, is_authority, key_of
from docker.cert_handout import DAEMON
from docker.cert_placing import CHANGE
from docker.cert_reading import read_file
from docker.settings import DockerSettings, certificate_paths

_PURPOSES: Final = {CLIENT: "clientAuth", SERVER: "serverAuth"}


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was found. Without ``content``, ``error`` says why not."""

    path: str
    there: bool
    content: bytes = b""
    mode: int = 0
    error: str = ""

    def __repr__(self) -> str:
        return f"File({self.path!r})"  # the content may be a key


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate's file and its key's; of the CA's certificate there may be several in one file."""

    role: str  # ca, server, client
    certificate: File
    key: File


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found in a folder, or where the settings name single files."""

    folder: str
    folder_mode: int | None  # None: there is no such folder
    interrupted: bool  # a change of them was killed, and its files are there
    pairs: tuple[Pair, ...]

    def pair(self, role: str) -> Pair | None:
        return next((pair for pair in self.pairs if pair.role == role), None)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one certificate says, and how its file lies there. ``problem``: it says nothing, and why."""

    role: str
    file: str
    mode: str | None
    problem: str | None = None
    subject: str | None = None
    hosts: tuple[str, ...] = ()
    key: str | None = None
    usage: str | None = None
    not_before: dt.datetime | None = None
    not_after: dt.datetime | None = None
    days_left: int | None = None
    sha256: str | None = None


def find(settings: DockerSettings) -> Files:
    """Read what is there. Never raises: a file that cannot be read says so itself."""
    folder = Path(settings.docker_cert_path)
    authority, certificate, key = certificate_paths(settings)
    named = {
        "ca": (authority, folder / "ca-key.pem"),
        "server": (folder / DAEMON[0], folder / DAEMON[1]),
        "client": (certificate, key),
    }
    pairs = (Pair(role=role, certificate=_file(paths[0]), key=_file(paths[1])) for role, paths in named.items())
    found = tuple(pair for pair in pairs if pair.certificate.there or pair.key.there)
    return Files(
        folder=str(folder),
        folder_mode=_mode(folder),
        interrupted=os.path.lexists(folder / CHANGE),
        pairs=found,
    )


def rows(files: Files, now: dt.datetime) -> list[Row]:
    """A row for each certificate: the CAs, the daemon's, the client's."""
    return [row for pair in files.pairs for row in _rows(pair, now)]


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and IP addresses that it is good for."""
    found = extension(certificate, x509.SubjectAlternativeName)
    return tuple(str(name.value) for name in found or () if isinstance(name, x509.DNSName | x509.IPAddress))


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of its DER form, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _rows(pair: Pair, now: dt.datetime) -> list[Row]:
    file = pair.certificate
    mode = f"{file.mode:04o}" if file.there else None
    try:
        if file.error:
            raise UnreadableFile(file.error)
        found = certificates(file.content, file.path)
    except UnreadableFile as error:
        return [Row(role=pair.role, file=file.path, mode=mode, problem=str(error))]
    # Behind a leaf stand those between it and its CA: they are not ours.
    shown = found if pair.role == "ca" else found[:1]
    return [_row(pair.role, file.path, f"{file.mode:04o}", certificate, now) for certificate in shown]


def _row(role: str, path: str, mode: str, certificate: x509.Certificate, now: dt.datetime) -> Row:
    kind, bits = key_of(certificate)
    return Row(
        role=role,
        file=path,
        mode=mode,
        subject=certificate.subject.rfc4514_string(),
        hosts=names_of(certificate),
        key=f"{kind} {bits}" if kind == "RSA" else kind,
        usage=_usage(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        days_left=(certificate.not_valid_after_utc - now) // dt.timedelta(days=1),
        sha256=fingerprint(certificate),
    )


def _usage(certificate: x509.Certificate) -> str:
    named = extension(certificate, x509.ExtendedKeyUsage)
    words = ["signs others"] if is_authority(certificate) else []
    words += [_PURPOSES.get(purpose, purpose.dotted_string) for purpose in named or ()]
    return ", ".join(words) or "any"


def _file(path: Path) -> File:
    mode = _mode(path)
    if mode is None:
        return File(path=str(path), there=os.path.lexists(path), error=f"{path} does not exist.")
    try:
        return File(path=str(path), there=True, mode=mode, content=read_file(path))
    except OSError as error:
        return File(path=str(path), there=True, mode=mode, error=f"{path} cannot be read: {error.strerror}.")


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
