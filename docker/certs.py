"""Makes, renews and replaces the certificate files of mutual TLS. ``python -m docker.certs``.

One folder holds what belongs to one daemon: the CA, the daemon's certificate and its clients'. Whatever is written
there appears at one moment (``cert_placing``); a command that fails has changed nothing. Who signs is ``authority``,
where the files go is ``cert_handout``.

The CA is replaced in two stages, so that nobody is locked out meanwhile. First ``ca.pem`` becomes a bundle of the new
CA and the former, and the daemon gets a certificate of the new one; the client keeps its own, which every daemon still
accepts. Once the daemon runs with these, ``finish`` gives the client a certificate of the new CA and leaves the former
out of the bundle: what it signed is then refused. The former CA's key is not kept: it would serve nobody but a thief.
"""

import argparse
import datetime as dt
import ipaddress
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from docker import cert_handout
from docker.authority import DAYS, environment_of, host_names
from docker.authority import Authority as Authority
from docker.cert_files import UnreadableFile, certificates, extension, signed_by
from docker.cert_handout import DAEMON, Delivery
from docker.cert_placing import alone, place
from docker.cert_reading import read_file
from docker.cert_trial import Trial as Trial
from docker.cert_trial import proof_of
from docker.errors import BadCertificateFiles
from docker.settings import DockerSettings, certificate_paths

FILES: Final = ("ca.pem", "ca-key.pem", "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem")
HERE: Final = ("127.0.0.1", "localhost")

Role = Literal["client", "server", "ca"]
_Plan = tuple[dict[str, bytes], tuple[Delivery, ...]]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a command wrote, or with ``dry_run`` would write."""

    folder: str
    files: tuple[str, ...]
    not_after: dt.datetime  # of the certificates that were made
    hosts: tuple[str, ...]  # of the daemon's certificate, when one was made
    deliveries: tuple[Delivery, ...]
    dry_run: bool = False


def generate(
    folder: Path,
    *,
    hosts: Sequence[str] = HERE,
    environment: str = "development",
    days: int = DAYS,
    force: bool = False,
) -> list[Path]:
    """Write the six files of ``FILES`` into ``folder``: keys 0400, certificates 0444.

    Raises BadCertificateFiles when one of them is there already, unless ``force``.
    """
    authority = Authority(environment=environment, days=days)
    made = (authority.certificate, authority.key, *authority.server(hosts), *authority.client())
    with alone(folder, make=True):
        present = [name for name in FILES if os.path.lexists(folder / name)]
        if present and not force:
            raise BadCertificateFiles(
                f"{folder} already holds {', '.join(present)}: nothing was written (--force replaces)."
            )
        return place(folder, dict(zip(FILES, made, strict=True)))


def renew(
    folder: Path,
    role: Role,
    *,
    hosts: Sequence[str] = (),
    days: int = DAYS,
    now: dt.datetime | None = None,
    trial: Trial | None = None,
    dry_run: bool = False,
) -> Change:
    """Replace the certificate and key of ``role``; the other files stay byte for byte. Raises BadCertificateFiles.

    ``client`` and ``server`` are signed with the ``ca-key.pem`` that is kept, and do not outlive their CA; ``ca``
    begins the replacement of the CA. Without ``hosts`` the daemon's certificate names those that it names now.
    ``trial`` is asked of a client's.
    """

    def plan() -> _Plan:
        if role == "ca":
            return _second_authority(folder, hosts, days=days, now=now)
        authority, names = _authority(folder), _client_names(folder) if role == "client" else DAEMON
        if role == "client":
            pair = authority.client(days=days, now=now)
        else:
            pair = authority.server(_names(folder, hosts), days=days, now=now)
        return dict(zip(names, pair, strict=True)), cert_handout.of_a_new_leaf(role, names)

    return _carried_out(folder, plan, trial if role == "client" else None, dry_run=dry_run)


def finish(
    folder: Path,
    *,
    days: int = DAYS,
    now: dt.datetime | None = None,
    trial: Trial | None = None,
    dry_run: bool = False,
) -> Change:
    """End the replacement of the CA: the former one is trusted no longer. Raises BadCertificateFiles.

    A client's certificate of the former CA is replaced too. The daemon's must be of the new one already.
    """

    def plan() -> _Plan:
        bundle, authority = _bundle(folder), _authority(folder)
        if len(bundle) < 2:
            raise BadCertificateFiles(f"{folder}/ca.pem holds one CA: no replacement of it is under way.")
        if authority.parsed != bundle[0]:
            raise BadCertificateFiles(f"{folder}/ca-key.pem is the key of the former CA: bring the new one here.")
        if not _is_signed(folder / DAEMON[0], authority):
            raise BadCertificateFiles(
                f"{folder}/{DAEMON[0]} is not of the new CA: renew the server's, and restart dockerd with it first."
            )
        contents, client = {"ca.pem": authority.certificate}, _client_names(folder)
        if not _is_signed(folder / client[0], authority):
            contents |= zip(client, authority.client(days=days, now=now), strict=True)
        return contents, cert_handout.of_one_authority_again(client)

    return _carried_out(folder, plan, trial, dry_run=dry_run)


def hosts_of(environment: Mapping[str, str]) -> list[str]:
    """The daemon's names: DOCKER_HOST_IP and DOCKER_HOST_NAME, each a comma-separated list; this machine's if none."""
    given = f"{environment.get('DOCKER_HOST_IP', HERE[0])},{environment.get('DOCKER_HOST_NAME', HERE[1])}"
    return [host.strip() for host in given.split(",") if host.strip()] or list(HERE)


def _carried_out(folder: Path, plan: Callable[[], _Plan], trial: Trial | None, *, dry_run: bool) -> Change:
    with nullcontext() if dry_run else alone(folder):
        contents, deliveries = plan()
        if trial is not None:
            names = ("ca.pem", *_client_names(folder))
            authority, certificate, key = (contents.get(name) or _content(folder / name) for name in names)
            trial(authority, certificate, key)
        if not dry_run:
            place(folder, contents)
    # A bundle begins with what was made last.
    made = {name: certificates(content, name)[0] for name, content in contents.items() if not name.endswith("key.pem")}
    return Change(
        folder=str(folder),
        files=tuple(contents),
        not_after=min(certificate.not_valid_after_utc for certificate in made.values()),
        hosts=hosts_in(made[DAEMON[0]]) if DAEMON[0] in made else (),
        deliveries=deliveries,
        dry_run=dry_run,
    )


def _second_authority(folder: Path, hosts: Sequence[str], *, days: int, now: dt.datetime | None) -> _Plan:
    bundle = _bundle(folder)
    if len(bundle) > 1:
        raise BadCertificateFiles(
            f"{folder}/ca.pem holds {len(bundle)} CAs: finish their replacement first (--finish)."
        )
    names = _names(folder, hosts)
    authority = Authority(environment=environment_of(bundle[0]), days=days, now=now)
    certificate, key = authority.server(names)
    contents = {
        "ca.pem": authority.certificate + bundle[0].public_bytes(Encoding.PEM),
        "ca-key.pem": authority.key,
        DAEMON[0]: certificate,
        DAEMON[1]: key,
    }
    return contents, cert_handout.of_a_second_authority()


def _authority(folder: Path) -> Authority:
    try:
        key = read_file(folder / "ca-key.pem")
    except OSError as error:
        raise BadCertificateFiles(
            f"{folder}/ca-key.pem cannot be read ({error.strerror}): do this where the CA's key is kept."
        ) from error
    return Authority.load(_content(folder / "ca.pem"), key)


def _bundle(folder: Path) -> list[x509.Certificate]:
    return _read(folder / "ca.pem")


def _names(folder: Path, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    """Of the daemon's next certificate."""
    if hosts:
        return host_names(hosts)
    path = folder / DAEMON[0]
    found = extension(_read(path)[0], x509.SubjectAlternativeName) if path.exists() else None
    if found is None:
        raise BadCertificateFiles(f"{path} names no hosts that could be kept: give them with --host.")
    return found


def _is_signed(path: Path, authority: Authority) -> bool:
    return path.exists() and signed_by(_read(path)[0], authority.parsed)


def _client_names(folder: Path) -> tuple[str, str]:
    """Ours, or those of the docker command when only they are there."""
    _, certificate, key = certificate_paths(DockerSettings(docker_cert_path=str(folder)))
    return certificate.name, key.name


def _read(path: Path) -> list[x509.Certificate]:
    try:
        return certificates(_content(path), str(path))
    except UnreadableFile as error:
        raise BadCertificateFiles(str(error)) from error


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise BadCertificateFiles(f"{path} cannot be read ({error.strerror}).") from error


def hosts_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and IP addresses that a daemon's certificate is good for."""
    found = extension(certificate, x509.SubjectAlternativeName)
    return tuple(str(name.value) for name in found or () if isinstance(name, x509.DNSName | x509.IPAddress))


def told(change: Change) -> list[str]:
    """What was done and what is to be done with it, a line each."""
    verb = "would be written" if change.dry_run else "written"
    hosts = f"; the daemon's certificate names {_called(change.hosts)}" if change.hosts else ""
    lines = [f"{verb}: {change.folder}/{name}" for name in change.files]
    return [*lines, f"It holds until {change.not_after:%Y-%m-%d %H:%M} UTC{hosts}.", *handed_out(change.deliveries)]


def _called(hosts: Sequence[str]) -> str:
    """Each with what it counts as: a mistyped address is a name, and nobody is reached by it."""
    return ", ".join(f"{host} ({'an address' if _is_address(host) else 'a name'})" for host in hosts)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def handed_out(deliveries: Sequence[Delivery]) -> list[str]:
    """The steps of handing out, a line each."""
    lines = []
    for number, step in enumerate(deliveries, 1):
        files = ", ".join(f"{name} ({cert_handout.mode_of(name):04o})" for name in step.files)
        where = "keep away" if step.machine == "offline" else f"to the {step.machine}'s machine"
        lines.append(f"{number}. {where}: {files}. {step.then}")
    return lines


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadCertificateFiles(f"DAYS={text!r} is no number of days.")
    return int(text[:9])


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    def given(name: str, default: str) -> str:
        return environment.get(name) or default

    parser = argparse.ArgumentParser(
        prog="generate-certs.sh",
        description="Makes, renews and replaces the certificate files of mutual TLS. Exit codes: 0 done, 1 nothing was "
        "written, 2 wrong use.",
    )
    folder, word = Path(given("DOCKER_CERT_PATH", "docker/certs")), given("DOCKER_ENV", "development")
    parser.add_argument(
        "--folder", type=Path, default=folder, help="where the files lie (DOCKER_CERT_PATH; %(default)s)"
    )
    parser.add_argument(
        "--environment",
        default=word,
        help="a word in the certificates' names that tells this installation from others (DOCKER_ENV; %(default)s)",
    )
    parser.add_argument(
        "--host",
        action="append",
        help="an address or a name of the daemon, once for each (DOCKER_HOST_IP and DOCKER_HOST_NAME, with commas; "
        f"else {' and '.join(HERE)})",
    )
    parser.add_argument("--days", default=given("DAYS", str(DAYS)), help="how long they hold (DAYS; %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace what is there, by a set of a new CA")
    parser.add_argument("--renew", choices=("server", "client", "ca"), help="replace this alone, signed by the CA")
    parser.add_argument("--finish", action="store_true", help="end the replacement of the CA: trust the new one alone")
    parser.add_argument("--unasked", action="store_true", help="with --finish: do not ask the daemon of DOCKER_HOST")
    parser.add_argument("--dry-run", action="store_true", help="with --renew or --finish: say what would be written")
    return parser


def _daemon_of(environment: Mapping[str, str]) -> DockerSettings:
    """Where it is asked; which files are shown to it is another matter."""
    return DockerSettings(
        docker_host=environment.get("DOCKER_HOST", ""), docker_host_ip=environment.get("DOCKER_HOST_IP", "")
    )


def _run(chosen: argparse.Namespace) -> list[str]:
    days = _days(chosen.days)
    if [bool(chosen.renew), chosen.finish, chosen.force].count(True) > 1:
        raise BadCertificateFiles("--renew, --finish and --force are three things to do: give one of them.")
    if chosen.renew:
        return told(renew(chosen.folder, chosen.renew, hosts=chosen.host or (), days=days, dry_run=chosen.dry_run))
    if chosen.finish:
        trial = None if chosen.unasked else proof_of(_daemon_of(os.environ))
        return told(finish(chosen.folder, days=days, trial=trial, dry_run=chosen.dry_run))
    if chosen.unasked:
        raise BadCertificateFiles("--unasked goes with --finish.")
    if chosen.dry_run:
        raise BadCertificateFiles("--dry-run goes with --renew or --finish.")
    hosts = chosen.host or hosts_of(os.environ)
    written = generate(chosen.folder, hosts=hosts, environment=chosen.environment, days=days, force=chosen.force)
    return [
        *map(str, written),
        f"The daemon's certificate names {_called(hosts)} and holds for {days} days.",
        *handed_out(cert_handout.of_a_new_set(FILES[4:])),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; answers its exit code."""
    try:
        lines = _run(_parser(os.environ).parse_args(arguments))
    except BadCertificateFiles as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
