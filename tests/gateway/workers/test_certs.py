"""Certificates: what is in use is known, and every change and every end that comes is told once."""

import asyncio
import datetime as dt
import logging
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from docker.authority import Authority
from docker.cert_files import Held
from docker.errors import DaemonDown
from docker.identity import Certificate, Credentials, Identity, Refused
from docker.mock import MockDockerService
from docker.settings import DockerSettings
from events.catalogue import CertificateExpiryWarned, CertificateRefused, CertificateRotated, CertificateUsed
from events.catalogue.certificate import NamedCertificate
from events.codec import decode
from events.envelope import RecordedEvent, gateway_stream
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from gateway.recorder import Recorder
from gateway.workers.certs import CertificateWatch, certificate_watch, rotations, standing
from tests.contracts.runtimes import until
from tests.docker.cert_folder import Clock, issue, replace, settings_of
from tests.gateway.faulty import FaultyStore, spooled
from tests.gateway.served import reached

DAY = dt.timedelta(days=1)
NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


def sha256_of(pem: bytes) -> str:
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


class Earth:
    """A daemon that shows ``shown``, our files, a clock, and the watch over them."""

    def __init__(self, folder: Path, *, days: int = 365) -> None:
        self.folder, self.clock, self.authority = folder, Clock(), Authority(days=days)
        issue(folder, self.authority)
        self.credentials = Credentials(settings_of(folder), now=self.clock.now, monotonic=self.clock.monotonic)
        self.shown = Certificate("d" * 64, self.clock.wall + 400 * DAY)
        self.away = False
        self.silent: asyncio.Event | None = None  # answers after it
        self.asked = False  # while it is silent
        self.returned: list[Callable[[], object]] = []
        self.store = MemoryEventStore()
        self.watch = self.watching("g1")

    def watching(self, instance: str) -> CertificateWatch:
        recorder = Recorder(self.store, MemoryKeyring(), self.clock.now)
        return CertificateWatch(recorder, self, instance, days=30)

    async def daemon_certificate(self) -> Certificate:
        if self.away:
            raise DaemonDown("Nothing listens there.")
        if self.silent is not None:
            self.asked = True
            await self.silent.wait()
        return self.shown

    def on_return(self, listener: Callable[[], object]) -> None:
        self.returned.append(listener)

    async def round(self, seconds: float = 1.01) -> None:
        self.clock.pass_by(seconds)
        await self.watch.run_once()

    async def told(self) -> list[RecordedEvent]:
        return await self.store.read_log(limit=1000)

    async def payloads(self) -> list[object]:
        """But for what was in use at the start."""
        return [each for each in map(decode, await self.told()) if not isinstance(each, CertificateUsed)]

    def named(self, file: str) -> NamedCertificate:
        """The first of that file."""
        (held, *_) = x509.load_pem_x509_certificates((self.folder / file).read_bytes())
        return held.fingerprint(hashes.SHA256()).hex(), held.not_valid_after_utc

    def client(self) -> str:
        return sha256_of((self.folder / "client-cert.pem").read_bytes())


@pytest.fixture
def earth(tmp_path: Path) -> Earth:
    return Earth(tmp_path)


def rotated(role: str, *, added: Sequence[NamedCertificate], removed: Sequence[NamedCertificate]) -> object:
    return CertificateRotated(instance="g1", role=role, added=tuple(added), removed=tuple(removed))


async def test_what_is_in_use_is_known_and_told_once_a_start(earth: Earth) -> None:
    """Files may have been replaced while no gateway ran: the log has no gap in what was shown to the daemon."""
    await earth.round()
    known = earth.watch.standing
    assert [(each.role, each.sha256, each.warning) for each in known.certificates] == [
        ("ca", sha256_of(earth.authority.certificate), False),
        ("client", earth.client(), False),
        ("daemon", "d" * 64, False),
    ]
    assert [each.days_left for each in known.certificates] == [364, 364, 399]
    assert known.warnings == ()
    await earth.round()
    assert [decode(event) for event in await earth.told()] == [
        CertificateUsed(instance="g1", role=each.role, certificates=((each.sha256, each.not_after),))
        for each in known.certificates
    ]
    replace(earth.folder, ca=earth.authority.certificate + Authority().certificate)
    earth.credentials = Credentials(settings_of(earth.folder), now=earth.clock.now, monotonic=earth.clock.monotonic)
    earth.watch = earth.watching("g1")
    await earth.round()
    began = [decode(event) for event in await earth.told()][3:]
    assert [(each.role, len(each.certificates)) for each in began if isinstance(each, CertificateUsed)] == [
        ("ca", 2),
        ("client", 1),
        ("daemon", 1),
    ]


async def test_files_that_changed_before_the_first_round_are_told_after_those_before(earth: Earth) -> None:
    earth.credentials.identity()
    before = earth.named("client-cert.pem")
    issue(earth.folder, earth.authority)
    await earth.round()
    said = [decode(event) for event in await earth.told()]
    assert CertificateUsed(instance="g1", role="client", certificates=(before,)) == said[1]
    assert said[2] == rotated("client", added=[earth.named("client-cert.pem")], removed=[before])


async def test_a_new_pair_is_told_with_the_one_before(earth: Earth) -> None:
    await earth.round()
    before = earth.named("client-cert.pem")
    issue(earth.folder, earth.authority)
    await earth.round()
    event = (await earth.told())[-1]
    assert decode(event) == rotated("client", added=[earth.named("client-cert.pem")], removed=[before])
    assert event.stream_id == gateway_stream("g1")
    assert b'"id":"g1"' in event.actor and b'"kind":"gateway"' in event.actor
    assert event.causation_id is None
    assert [each.sha256 for each in earth.watch.standing.certificates if each.role == "client"] == [earth.client()]


async def test_an_authority_that_comes_and_one_that_goes_are_told(earth: Earth) -> None:
    """A bundle for a while, then the new one alone: as an authority is replaced."""
    await earth.round()
    new = Authority(days=500)
    old = earth.named("ca.pem")
    both = new.certificate + earth.authority.certificate
    replace(earth.folder, ca=both)
    await earth.round()
    issue(earth.folder, new, ca=both)
    await earth.round()
    replace(earth.folder, ca=new.certificate)
    await earth.round()
    fresh = earth.named("ca.pem")
    said = [each for each in await earth.payloads() if isinstance(each, CertificateRotated)]
    assert [each.role for each in said] == ["ca", "client", "ca"]
    assert said[0] == rotated("ca", added=[fresh], removed=[])
    assert said[2] == rotated("ca", added=[], removed=[old])


def test_every_authority_that_went_is_told() -> None:
    """Also when others came at once: what was revoked stands in the log."""
    one, two, three, client = (Certificate(letter * 64, NOW) for letter in "abcd")
    before, after = (
        Identity(
            context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            authorities=authorities,
            client=client,
            held=Held((), ()),
            content="",
        )
        for authorities in ((one, two), (three,))
    )
    named = [(each.sha256, NOW) for each in (one, two, three)]
    assert rotations(before, after, "g1") == [rotated("ca", added=named[2:], removed=named[:2])]


async def test_another_certificate_of_the_daemon_is_told_when_it_came_back(earth: Earth) -> None:
    """It is restarted for it, and who is told that it answers again looks at once."""
    job = asyncio.create_task(earth.watch.worker.run())
    await reached(lambda: [each.role for each in earth.watch.standing.certificates][-1:] == ["daemon"])
    former, earth.shown = earth.shown, Certificate("e" * 64, earth.clock.wall + 500 * DAY)
    (returned,) = earth.returned
    returned()
    await until(earth.payloads)
    job.cancel()
    (said,) = await earth.payloads()
    shown = [(each.sha256, each.not_after) for each in (earth.shown, former)]
    assert said == rotated("daemon", added=shown[:1], removed=shown[1:])


async def test_files_that_are_taken_up_are_told_at_once_whatever_the_daemon_does(earth: Earth) -> None:
    """It is not asked first, which takes its time while it restarts, and the hour is not waited for."""
    job = asyncio.create_task(earth.watch.run())
    await reached(lambda: [each.role for each in earth.watch.standing.certificates][-1:] == ["daemon"])
    earth.silent = asyncio.Event()
    issue(earth.folder, earth.authority)
    earth.clock.pass_by()
    earth.credentials.identity()
    await until(earth.payloads)
    assert isinstance((await earth.payloads())[0], CertificateRotated)
    job.cancel()
    await asyncio.wait([job])


async def test_what_is_not_told_yet_is_told_at_the_end(earth: Earth) -> None:
    job = asyncio.create_task(earth.watch.run())
    earth.silent = asyncio.Event()
    await until(earth.told)
    await reached(lambda: earth.asked)
    issue(earth.folder, earth.authority)
    earth.clock.pass_by()
    earth.credentials.identity()
    assert await earth.payloads() == []
    job.cancel()
    await asyncio.wait([job])
    assert isinstance((await earth.payloads())[0], CertificateRotated)


async def test_a_daemon_that_is_away_keeps_what_is_known_of_it(earth: Earth) -> None:
    await earth.round()
    earth.away = True
    await earth.round()
    assert [each.role for each in earth.watch.standing.certificates] == ["ca", "client", "daemon"]
    earth.away = False
    await earth.round()
    assert await earth.payloads() == []


async def test_files_that_are_refused_are_told_once_and_stand_in_health(
    earth: Earth, caplog: pytest.LogCaptureFixture
) -> None:
    await earth.round()
    in_use = earth.client()
    replace(earth.folder, client_cert=earth.authority.client()[0])
    for _ in range(4):
        await earth.round()
    (said,) = await earth.payloads()
    assert isinstance(said, CertificateRefused)
    assert (said.instance, said.reason) == ("g1", "key_mismatch")
    known = earth.watch.standing
    assert known.warnings == (f"New certificate files are not used: {said.detail}",)
    assert [each.sha256 for each in known.certificates if each.role == "client"] == [in_use]
    assert [record.levelno for record in caplog.records if "are not used" in record.message] == [logging.WARNING]
    issue(earth.folder, earth.authority)
    await earth.round()
    assert not earth.watch.standing.warnings
    assert isinstance((await earth.payloads())[-1], CertificateRotated)
    replace(earth.folder, client_cert=earth.authority.client()[0])
    for _ in range(4):
        await earth.round()
    assert isinstance((await earth.payloads())[-1], CertificateRefused), "once more: it is another time"


async def test_an_end_that_comes_is_told_once_and_said_once_a_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earth = Earth(tmp_path, days=40)
    earth.shown = Certificate("d" * 64, earth.clock.wall + 400 * DAY)
    for _ in range(9):  # 40 to 31 days before
        await earth.round(86_400)
    assert await earth.payloads() == [] and "ends in" not in caplog.text
    for _ in range(48):  # two days, hour by hour
        await earth.round(3_600)
    said = [each for each in await earth.payloads() if isinstance(each, CertificateExpiryWarned)]
    assert [(each.instance, each.role) for each in said] == [("g1", "ca"), ("g1", "client")]
    assert said[1].sha256 == earth.client()
    lines = [record for record in caplog.records if "The client's certificate ends in" in record.message]
    assert [record.levelno for record in lines] == [logging.WARNING] * len(lines)
    assert len(lines) in (1, 2), "once a day of the two"
    assert any(words.startswith("The client's certificate ends in 2") for words in earth.watch.standing.warnings)


async def test_another_watch_of_the_instance_tells_nothing_twice(tmp_path: Path) -> None:
    """What tells it has an id made of instance and certificate; another instance has files of its own."""
    earth = Earth(tmp_path, days=10)
    for instance in ("g1", "g1", "g2"):
        earth.watch = earth.watching(instance)
        await earth.round()
    events = [(event.event_id, decode(event)) for event in await earth.told()]
    said = [each for each in events if isinstance(each[1], CertificateExpiryWarned)]
    assert len(said) == len({event_id for event_id, _ in said}) == 4  # ca and client, of two instances


async def test_it_is_told_while_the_log_is_away(tmp_path: Path) -> None:
    """Facts wait in the spool: an outage is no reason to miss that a certificate ends."""
    earth = Earth(tmp_path / "certs", days=10)
    inner = FaultyStore()
    async with spooled(inner, tmp_path / "spool") as store:
        inner.away = True
        watch = CertificateWatch(Recorder(store, MemoryKeyring(), earth.clock.now), earth, "g1", days=30)
        await asyncio.wait_for(watch.run_once(), 5)
        assert store.status.spooled_units == 2 + 3  # two that end, and what it began with


@pytest.mark.parametrize(
    ("left", "warning", "words"),
    [
        (31 * DAY, False, ""),
        (30 * DAY, False, ""),
        (30 * DAY - dt.timedelta(seconds=1), True, "The client's certificate ends in 29 days, at 2026-03-30 23:59 UTC"),
        (dt.timedelta(hours=1), True, "The client's certificate ends in 0 days"),
        (-dt.timedelta(hours=1), True, "The client's certificate has ended, at 2026-02-28 23:00 UTC"),
    ],
)
def test_it_is_warned_of_fewer_days_than_the_setting(left: dt.timedelta, warning: bool, words: str) -> None:
    found = standing([("client", Certificate("a" * 64, NOW + left))], None, now=NOW, days=30)
    assert found.certificates[0].warning is warning
    assert len(found.warnings) == warning
    assert all(sentence.startswith(words) for sentence in found.warnings)


def test_any_number_of_days_may_be_asked_for() -> None:
    held = [("ca", Certificate("a" * 64, NOW + 9 * DAY))]
    assert standing(held, None, now=NOW, days=10**10).certificates[0].warning


def test_one_that_has_ended_is_warned_of_whatever_the_setting() -> None:
    found = standing([("ca", Certificate("a" * 64, NOW))], Refused("", "expired", "It ended."), now=NOW, days=0)
    assert found.certificates[0].warning
    assert len(found.warnings) == 2


def test_a_runtime_without_certificates_has_no_watch() -> None:
    recorder = Recorder(MemoryEventStore(), MemoryKeyring())
    assert certificate_watch(recorder, MockDockerService(), "g1", DockerSettings()) is None
