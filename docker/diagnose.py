"""Says in five seconds whether the daemon can be used, and if not why and what to do. ``python -m docker.diagnose``.

Walks the way of every call one step at a time: settings, files, name, TCP, TLS, ping, version. Looks only; the verdicts
are ``docker/verdicts.py``'s.
"""

import argparse
import asyncio
import datetime as dt
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from docker import asking
from docker.asking import Answer
from docker.cert_reading import read_file
from docker.errors import BadDockerSettings, DaemonFailed, DaemonPlainText, DaemonSilent, DockerError, NoDaemon
from docker.refusals import failure_of, fault_of_files
from docker.settings import DockerSettings, certificate_paths, daemon_url, from_environment
from docker.tls import PLAIN_TEXT_ANSWER, ssl_context
from docker.verdicts import USABLE, Verdict, verdict_of

SECONDS: Final = 3.5  # a second more may go by in asking the daemon why it refused us
SOON: Final = dt.timedelta(days=30)
_SILENT: Final = {
    "name": "The name of the daemon's host in {address} is not resolved in time: the name server does not answer.",
    "tcp": "Nothing comes back from {address}: packets are dropped on the way, or the machine is off.",
    "tls": "{address} accepts the connection and then says nothing: the daemon hangs, or it is something else.",
    "ping": "The daemon at {address} speaks TLS and does not answer a request: it hangs.",
    "version": "The daemon at {address} answers a ping, and then nothing more: it hangs.",
}


class Step(msgspec.Struct, frozen=True):
    """One step on the way, and how long it took. ``passed`` false: the walk ended here."""

    name: str
    passed: bool
    milliseconds: float


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen on the way, as far as it went."""

    peer: str | None = None
    tls_version: str | None = None
    cipher: str | None = None
    daemon_version: str | None = None
    api_version: str | None = None
    daemon_certificate_ends: dt.datetime | None = None
    our_certificate_ends: dt.datetime | None = None


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict (a word of ``docker/verdicts.py``), one sentence, what to do, and what was seen."""

    verdict: str
    exit_code: int
    sentence: str
    todo: str
    address: str
    facts: Facts
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    milliseconds: float = 0.0

    @property
    def usable(self) -> bool:
        return self.exit_code == USABLE.exit_code


async def diagnose(
    settings: DockerSettings,
    *,
    seconds: float = SECONDS,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> Diagnosis:
    """Walk to the daemon. Never raises; ``seconds`` and one more at the most."""
    walk = _Walk(settings, now)
    try:
        async with asyncio.timeout(seconds):
            await walk.to_the_end()
    except Exception as error:  # whatever it is, it is what is wrong
        return await walk.ended(error)
    return walk.diagnosis(USABLE, walk.arrived())


class _Walk:
    """One way to the daemon and what was seen on it."""

    def __init__(self, settings: DockerSettings, now: Callable[[], dt.datetime]) -> None:
        self._settings, self._now = settings, now
        self._began = time.perf_counter()
        self._steps: list[Step] = []
        self._seen: dict[str, Any] = {}
        self._context: ssl.SSLContext | None = None
        self._address = settings.docker_host or settings.docker_host_ip or "(none)"

    async def to_the_end(self) -> None:
        """Raises what ended it."""
        with self._step("settings"):
            where = urlsplit(daemon_url(self._settings))
        with self._step("files"):
            self._context = ssl_context(self._settings)
            self._seen["our_certificate_ends"] = _ends(self._settings)
        host, port = where.hostname or "", where.port or 0
        with self._step("name"):
            addresses = await asking.resolve(host, port)
        streams = await self._connect(host, port, addresses)
        try:
            with self._step("ping"):
                self._check_ping(await asking.request(streams, host, "/_ping"))
        finally:
            streams[1].transport.abort()
        with self._step("version"):
            self._read_version(await asking.ask(self._settings, "/version"))

    async def _connect(self, host: str, port: int, addresses: Sequence[str]) -> asking.Streams:
        assert self._context is not None
        with self._step("tcp"):
            streams = await asking.dial(addresses, port)
        try:
            with self._step("tls"):
                await asking.handshake(streams[1], self._context, host)
        except BaseException:
            streams[1].transport.abort()
            raise
        self._see(streams[1])
        return streams

    def _see(self, writer: asyncio.StreamWriter) -> None:
        session = writer.get_extra_info("ssl_object")
        ends = str(session.getpeercert()["notAfter"])
        self._seen |= {
            "peer": "{}:{}".format(*writer.get_extra_info("peername")[:2]),
            "tls_version": session.version(),
            "cipher": session.cipher()[0],
            "daemon_certificate_ends": dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), dt.UTC),
        }

    def _check_ping(self, answer: Answer) -> None:
        text = answer.body.decode(errors="replace")
        if answer.status == 400 and PLAIN_TEXT_ANSWER in text:
            raise DaemonPlainText(f"What answers at {self._address} speaks plain HTTP to a daemon that wants TLS.")
        ours = "api-version" in answer.headers or answer.headers.get("server", "").startswith("Docker/")
        if not ours:
            raise NoDaemon(f"What answers at {self._address} over TLS is not a Docker daemon.")
        if answer.status != 200:
            raise DaemonFailed(f"The daemon at {self._address} answers a ping with {answer.status}: {text.strip()}")

    def _read_version(self, answer: Answer) -> None:
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, Any])
            self._seen |= {"daemon_version": str(said["Version"]), "api_version": str(said["ApiVersion"])}
        except (msgspec.DecodeError, KeyError) as error:
            raise DaemonFailed(f"The daemon at {self._address} does not tell its version.") from error

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began, passed = time.perf_counter(), False
        try:
            yield
            passed = True
        finally:
            self._steps.append(Step(name, passed, _ms(began)))

    def arrived(self) -> str:
        seen = self._seen
        return (
            f"The daemon at {self._address} answers over {seen['tls_version']}: Docker {seen['daemon_version']}, "
            f"API {seen['api_version']}."
        )

    async def ended(self, error: Exception) -> Diagnosis:
        """What the error means for the one who asked."""
        found = await self._meaning(error)
        return self.diagnosis(verdict_of(found), str(found))

    async def _meaning(self, error: Exception) -> DockerError:
        if isinstance(error, DockerError):
            return error
        last = self._steps[-1].name
        if isinstance(error, TimeoutError) and last in _SILENT:
            return DaemonSilent(_SILENT[last].format(address=self._address))
        try:
            return await failure_of(
                error, self._settings, self._address, lost=isinstance(error, OSError | EOFError), context=self._context
            )
        except DockerError as trouble:  # the files went while we looked
            return trouble

    def diagnosis(self, verdict: Verdict, sentence: str) -> Diagnosis:
        return Diagnosis(
            verdict=verdict.word,
            exit_code=verdict.exit_code,
            sentence=sentence,
            todo=verdict.todo,
            address=self._address,
            facts=Facts(**self._seen),
            steps=tuple(self._steps),
            warnings=tuple(self._warnings(verdict)),
            milliseconds=_ms(self._began),
        )

    def _warnings(self, verdict: Verdict) -> Iterator[str]:
        if self._context is None:
            return
        yield from loose_permissions(self._settings)
        for whose, field in (("Our", "our_certificate_ends"), ("The daemon's", "daemon_certificate_ends")):
            ends = self._seen.get(field)
            if ends is not None and self._now() < ends < self._now() + SOON:
                yield f"{whose} certificate ends on {ends:%Y-%m-%d}: renew it."
        # A daemon that answered has judged our certificate; of one that was not reached we can only guess.
        judged = verdict is USABLE or verdict.word.startswith("refused")
        if not judged and (fault := fault_of_files(self._settings, self._now())) is not None:
            yield f"Our certificate: {fault.detail}"


def loose_permissions(settings: DockerSettings) -> Iterator[str]:
    """A sentence for each of our files that others may read or write and should not."""
    authority, certificate, key = certificate_paths(settings)
    for path, forbidden, wanted in ((authority, 0o022, "0444"), (certificate, 0o022, "0444"), (key, 0o077, "0400")):
        try:
            mode = path.stat().st_mode & 0o777
        except OSError:
            continue  # gone meanwhile
        if mode & forbidden:
            yield f"{path} has mode {mode:04o}: chmod {wanted} {path}"


def _ends(settings: DockerSettings) -> dt.datetime | None:
    try:
        return x509.load_pem_x509_certificate(read_file(certificate_paths(settings)[1])).not_valid_after_utc
    except (OSError, ValueError):
        return None


def _ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; answers the verdict's exit code (``docker/README.md`` lists them)."""
    parser = argparse.ArgumentParser(
        prog="test-tls-connection.py",
        description="Says in five seconds whether the daemon can be used, and if not why and what to do.",
        epilog="Exit codes: 0 it can be used; the others are in docker/README.md.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document with every step and fact")
    chosen = parser.parse_args(arguments)
    try:
        settings = from_environment(os.environ)
    except BadDockerSettings as error:
        print(f"{error}\n{verdict_of(error).todo}")
        return verdict_of(error).exit_code
    found = asyncio.run(diagnose(settings))
    if chosen.json:
        print(msgspec.json.encode(found).decode())
        return found.exit_code
    for step in found.steps:
        print(f"{step.name:<9}{'ok' if step.passed else 'FAILED':<7}{step.milliseconds:8.1f} ms", file=sys.stderr)
    print("\n".join(filter(None, (found.sentence, found.todo, *found.warnings))), flush=True)
    return found.exit_code


if __name__ == "__main__":
    sys.exit(main())
