"""What is right and wrong with the certificate files: a check a question, each with its verdict and what to do.

Looks at files alone; whether a daemon accepts them is told by the daemon. Of what is not on this machine nothing is
asked, so the same checks serve on the gateway's, on the daemon's and where the files are made.
"""

import datetime as dt
import enum
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from docker.cert_files import (
    CLIENT,
    SERVER,
    UnreadableFile,
    belongs,
    certificates,
    is_authority,
    key_of,
    private_key,
    serves,
    way,
    weakness,
)
from docker.cert_report import File, Files, Pair, names_of
from docker.errors import BadDockerSettings
from docker.settings import DockerSettings, daemon_url

_WHO: Final = {"ca": "The CA", "server": "The daemon's certificate", "client": "The client's certificate"}
_ROTATE: Final = {
    "ca": "Replace the CA: python -m gateway certs rotate ca, and hand out what it says.",
    "server": "Renew it where the CA's key is kept: python -m gateway certs rotate server.",
    "client": "Renew it where the CA's key is kept: python -m gateway certs rotate client.",
}


class State(enum.Enum):
    """A check's verdict."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One question about one kind of file. ``todo`` is empty when nothing is to be done."""

    check: str
    role: str  # ca, server, client, folder
    state: State
    sentence: str
    todo: str = ""


class _Loaded(msgspec.Struct, frozen=True, kw_only=True):
    pair: Pair
    chain: list[x509.Certificate]


def check(files: Files, settings: DockerSettings, now: dt.datetime) -> list[Check]:
    """Every check that applies here, in an order in which what comes first explains what comes later."""
    found = list(_presence(files))
    loaded = {pair.role: _Loaded(pair=pair, chain=chain) for pair in files.pairs if (chain := _chain(pair))}
    bundle = loaded["ca"].chain if "ca" in loaded else []
    for role, one in loaded.items():
        found += _expiry(role, one.chain if role == "ca" else one.chain[:1], settings, now)
        if role != "ca":
            found.append(_signed(role, one, bundle))
        found += [_usage(role, one), _strength(role, one)]
        if role == "server":
            found += _hosts(one.chain[0], settings)
        if one.pair.key.there:
            found.append(_key(one))
    if len(bundle) > 1:
        found.append(_two_authorities(bundle))
    return [*found, *_permissions(files), *_stray_key(files), *_interrupted(files)]


def worst(checks: Sequence[Check]) -> State:
    """FAIL before WARN before PASS."""
    states = {one.state for one in checks}
    return next((state for state in (State.FAIL, State.WARN) if state in states), State.PASS)


def _presence(files: Files) -> Iterator[Check]:
    """Whether all that belongs together is there and can be read."""
    make = "Make certificates (docker/scripts/generate-certs.sh), or set DOCKER_CERT_PATH."
    if files.folder_mode is None and not files.pairs:
        yield Check(check="files", role="folder", state=State.FAIL, sentence=f"{files.folder} is not there.", todo=make)
        return
    if files.pair("client") is None and files.pair("server") is None:
        sentence = f"{files.folder} holds neither a client's certificate nor a daemon's."
        yield Check(check="files", role="folder", state=State.FAIL, sentence=sentence, todo=make)
    for role in ("ca", "server", "client"):
        pair = files.pair(role)
        if pair is not None:
            yield _files_of(pair)
        elif role == "ca":
            sentence = "The CA's certificate is not there: nobody can be trusted."
            yield Check(check="files", role="ca", state=State.FAIL, sentence=sentence, todo="Bring ca.pem here.")


def _files_of(pair: Pair) -> Check:
    needed = (pair.certificate,) if pair.role == "ca" else (pair.certificate, pair.key)
    for file in needed:
        problem = _problem(file, is_key=file is pair.key)
        if problem:
            todo = f"Bring {file.path} again from where it was made."
            # The daemon's key belongs on the daemon's machine, and there to root.
            elsewhere = pair.role == "server" and file is pair.key and bool(file.error)
            return _made("files", pair.role, State.WARN if elsewhere else State.FAIL, problem, todo)
    return _made("files", pair.role, State.PASS, f"{' and '.join(file.path for file in needed)} can be read.")


def _problem(file: File, *, is_key: bool) -> str:
    if file.error:
        return file.error
    try:
        if is_key:
            private_key(file.content, file.path)
        else:
            certificates(file.content, file.path)
    except UnreadableFile as error:
        return str(error)
    return ""


def _chain(pair: Pair) -> list[x509.Certificate]:
    """Empty when it cannot be read, which ``_presence`` has told."""
    try:
        return certificates(pair.certificate.content, pair.certificate.path)
    except UnreadableFile:
        return []


def _expiry(
    role: str, chain: Sequence[x509.Certificate], settings: DockerSettings, now: dt.datetime
) -> Iterator[Check]:
    """Of each by itself; the former CA of a bundle does no harm when it has ended."""
    for position, certificate in enumerate(chain):
        who = _WHO[role] if position == 0 else "The former CA"
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        left = (end - now) / dt.timedelta(days=1)
        told = f"{end:%Y-%m-%d %H:%M} UTC"
        if end < now:
            state = State.FAIL if position == 0 else State.WARN
            yield _made("expiry", role, state, f"{who} expired at {told}.", _ROTATE[role])
        elif now < begin:
            sentence = f"{who} is not valid before {begin:%Y-%m-%d %H:%M} UTC."
            yield _made("expiry", role, State.FAIL, sentence, "Set this machine's clock, or wait.")
        elif left < settings.certificate_warning_days:
            yield _made("expiry", role, State.WARN, f"{who} expires at {told}, in {int(left)} days.", _ROTATE[role])
        else:
            yield _made("expiry", role, State.PASS, f"{who} holds until {told}, {int(left)} days.")


def _signed(role: str, one: _Loaded, bundle: Sequence[x509.Certificate]) -> Check:
    if not bundle:
        return _made("chain", role, State.FAIL, f"{_WHO[role]} cannot be traced to a CA.", "Bring ca.pem here.")
    if way(one.chain, bundle) is None:
        todo = f"Bring the ca.pem that belongs to it, or another pair of the {role}'s from where this CA's key is kept."
        return _made("chain", role, State.FAIL, f"{_WHO[role]} is signed by none of the CAs in ca.pem.", todo)
    return _made("chain", role, State.PASS, f"{_WHO[role]} is signed by the CA in ca.pem.")


def _usage(role: str, one: _Loaded) -> Check:
    wanted: dict[str, tuple[str, Callable[[x509.Certificate], bool]]] = {
        "ca": ("signing others (CA)", is_authority),
        "server": ("daemons (serverAuth)", lambda certificate: serves(certificate, SERVER)),
        "client": ("clients (clientAuth)", lambda certificate: serves(certificate, CLIENT)),
    }
    what, holds = wanted[role]
    if all(holds(certificate) for certificate in (one.chain if role == "ca" else one.chain[:1])):
        return _made("usage", role, State.PASS, f"{_WHO[role]} is made for {what}.")
    todo = f"Were two files exchanged? {one.pair.certificate.path} must be the {role}'s."
    return _made("usage", role, State.FAIL, f"{_WHO[role]} is not made for {what}.", todo)


def _strength(role: str, one: _Loaded) -> Check:
    for certificate in one.chain if role == "ca" else one.chain[:1]:
        if weak := weakness(certificate):
            return _made("strength", role, State.FAIL, f"{_WHO[role]} {weak}.", _ROTATE[role])
    return _made(
        "strength", role, State.PASS, f"{_WHO[role]} has a strong key: {' '.join(map(str, key_of(one.chain[0])))} bits."
    )


def _key(one: _Loaded) -> Check:
    pair = one.pair
    if pair.key.error:
        # On a machine where it is not needed; where it is, ``_presence`` has failed.
        return _made(
            "key", pair.role, State.WARN, f"{pair.key.error[:-1]}, so it was not compared.", "Look as its owner."
        )
    try:
        key = private_key(pair.key.content, pair.key.path)
    except UnreadableFile as error:
        return _made("key", pair.role, State.FAIL, str(error), f"Bring {pair.key.path} again from where it was made.")
    # Of a bundle the first is the one that signs.
    if belongs(key, one.chain[0]):
        return _made("key", pair.role, State.PASS, f"{_WHO[pair.role]} and its key belong together.")
    todo = f"Bring both again, of one making: {pair.certificate.path} and {pair.key.path}."
    return _made("key", pair.role, State.FAIL, f"{_WHO[pair.role]} was made for another key.", todo)


def _hosts(certificate: x509.Certificate, settings: DockerSettings) -> Iterator[Check]:
    """Whether the daemon may be called as DOCKER_HOST does."""
    try:
        host = urlsplit(daemon_url(settings)).hostname or ""
    except BadDockerSettings:
        return  # none is given here, or ``problems`` tells what is wrong with it
    names = names_of(certificate)
    if any(covers(name, host) for name in names):
        yield _made("hosts", "server", State.PASS, f"The daemon's certificate names {host}.")
        return
    sentence = f"The daemon's certificate names {', '.join(names) or 'no host'}, and DOCKER_HOST is {host}."
    todo = "Call it by a name of these, or renew it: python -m gateway certs rotate server --host NAME, once a name."
    yield _made("hosts", "server", State.FAIL, sentence, todo)


def covers(name: str, host: str) -> bool:
    """Whether a certificate for ``name`` may be shown by ``host`` (RFC 6125: a star is one label, and the first)."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    except ValueError:
        pass
    name, host = name.lower(), host.lower()
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return name == host


def _two_authorities(bundle: Sequence[x509.Certificate]) -> Check:
    return _made(
        "rotation",
        "ca",
        State.WARN,
        f"ca.pem trusts {len(bundle)} CAs: the replacement of the CA is not finished.",
        "Once the daemon runs with the new files: python -m gateway certs rotate ca --finish.",
    )


def _permissions(files: Files) -> Iterator[Check]:
    """A key is for its owner; nobody else may put another CA, or another pair, in place."""
    mode = files.folder_mode
    if mode is not None and mode & 0o022:
        state = State.FAIL if mode & 0o002 else State.WARN
        sentence = f"{files.folder} may be written by others ({mode:04o}): they could put their own CA there."
        yield _made("permissions", "folder", state, sentence, f"chmod go-w {files.folder}")
    for pair in files.pairs:
        if pair.certificate.there and pair.certificate.mode & 0o022:
            path, told = pair.certificate.path, f"{pair.certificate.mode:04o}"
            yield _made(
                "permissions", pair.role, State.FAIL, f"{path} may be written by others ({told}).", f"chmod 444 {path}"
            )
        if pair.key.there:
            yield _key_permissions(pair)


def _key_permissions(pair: Pair) -> Check:
    path, mode = pair.key.path, pair.key.mode
    if not mode & 0o077:
        return _made("permissions", pair.role, State.PASS, f"{path} is for its owner alone ({mode:04o}).")
    state, whom = (State.FAIL, "everybody") if mode & 0o007 else (State.WARN, "its group")
    todo = f"chmod 400 {path}"
    if state is State.FAIL:
        todo += f"; it may have been copied: {_ROTATE[pair.role]}"
    return _made("permissions", pair.role, state, f"{path} may be used by {whom} ({mode:04o}).", todo)


def _interrupted(files: Files) -> Iterator[Check]:
    """What is to be read is whole; former keys may lie beside it."""
    if files.interrupted:
        sentence = f"A change of the files in {files.folder} was interrupted; those that are read belong together."
        todo = f"DOCKER_CERT_PATH={files.folder} docker/scripts/generate-certs.sh tidies up and replaces nothing."
        yield _made("interrupted", "folder", State.WARN, sentence, todo)


def _stray_key(files: Files) -> Iterator[Check]:
    pair = files.pair("ca")
    if pair is not None and pair.key.there and files.pair("client") is not None:
        sentence = f"{pair.key.path} lies with a client's files: who takes it can make daemons and clients."
        yield _made("ca key", "ca", State.WARN, sentence, "Where a gateway or a daemon runs: move it to a safe place.")


def _made(name: str, role: str, state: State, sentence: str, todo: str = "") -> Check:
    return Check(check=name, role=role, state=state, sentence=sentence, todo=todo)
