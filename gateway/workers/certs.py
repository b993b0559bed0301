"""Certificates: those that we and the daemon show each other, told when they change, are refused, or end soon.

Each instance tells of its own files: hourly, at its start, when its files changed and when the daemon came back. What
the daemon shows is read from a handshake; what is known without it is told first, since a daemon that is away takes its
time. A runtime without certificates has no such job.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import msgspec

from docker.aiodocker_service import AiodockerService
from docker.errors import DockerError
from docker.identity import Certificate, Credentials, Identity, Refused, Taken
from docker.service import DockerService
from docker.settings import DockerSettings
from events.catalogue import CertificateExpiryWarned, CertificateRefused, CertificateRotated, CertificateUsed
from events.catalogue.certificate import NamedCertificate
from events.envelope import ActorKind, gateway_stream
from events.errors import EventError
from events.ids import named, uuid7
from events.registry import tag_of
from gateway import context, metrics, telemetry
from gateway.recorder import Recorder, Who
from gateway.sessions.observe import until_stored
from gateway.workers.worker import Worker

SECONDS: Final = 3600.0
REMIND: Final = timedelta(days=1)  # between two lines of the log about one certificate
DAY: Final = timedelta(days=1)
FLUSH_SECONDS: Final = 5.0
CA, CLIENT, DAEMON = "ca", "client", "daemon"
_WHOSE: Final = {CA: "The CA's", CLIENT: "The client's", DAEMON: "The daemon's"}
log = logging.getLogger("session_gateway.certificates")

Fact = CertificateExpiryWarned | CertificateRefused | CertificateRotated | CertificateUsed


class Daemon(Protocol):
    """What is needed of the daemon's service."""

    credentials: Credentials

    def daemon_certificate(self) -> Awaitable[Certificate]: ...

    def on_return(self, listener: Callable[[], object]) -> None: ...


class InUse(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate in use, as an operator wants to know it."""

    role: str  # ca, client, daemon
    sha256: str
    not_after: datetime
    days_left: int  # whole days; below 0: it has ended
    warning: bool  # fewer than CERTIFICATE_WARNING_DAYS


class Standing(msgspec.Struct, frozen=True):
    """What is known of all of them now."""

    certificates: tuple[InUse, ...]
    warnings: tuple[str, ...]  # sentences


def standing(held: Iterable[tuple[str, Certificate]], refused: Refused | None, *, now: datetime, days: int) -> Standing:
    """What ``held`` (role and certificate) and files that are ``refused`` come to."""
    found = tuple(_in_use(role, each, now=now, days=days) for role, each in held)
    warnings = [_sentence(each) for each in found if each.warning]
    if refused is not None:
        warnings.append(f"New certificate files are not used: {refused.detail}")
    return Standing(found, tuple(warnings))


def rotations(before: Identity, after: Identity, instance: str) -> list[CertificateRotated]:
    """What is told of files that were taken up: of each role, those that came and those that went."""
    roles = ((CLIENT, (before.client,), (after.client,)), (CA, before.authorities, after.authorities))
    found = [
        _rotated(instance, role, [each for each in now if each not in was], [each for each in was if each not in now])
        for role, was, now in roles
    ]
    return [each for each in found if each.added or each.removed]


class CertificateWatch:
    """One instance's. ``days``: before its end a certificate is warned of."""

    def __init__(self, recorder: Recorder, daemon: Daemon, instance: str, *, days: int) -> None:
        self._recorder, self._daemon, self._instance, self._days = recorder, daemon, instance, days
        self._shown: Certificate | None = None  # by the daemon, when it was looked at last
        self._facts: deque[tuple[Fact, UUID]] = deque()
        self._began = False  # what our files are has been stated
        self._warned: set[str] = set()
        self._logged: dict[str, datetime] = {}
        self.worker = Worker("certificates", self.run_once, SECONDS)
        daemon.credentials.on_change(self._changed)
        daemon.on_return(self.worker.poke)

    @property
    def standing(self) -> Standing:
        """As far as is known without asking anybody; for any thread."""
        return standing(self._held(), self._credentials.refused, now=self._recorder.now(), days=self._days)

    async def run_once(self) -> None:
        """Look at all of them, and tell what is new. A daemon that does not answer is told of by others."""
        self._begin(self._credentials.identity())
        await self._tell_all()
        try:
            self._show(await self._daemon.daemon_certificate())
        except DockerError as away:
            log.debug("the daemon's certificate is not known: %s", away, extra={"operation": "certificates"})
        await self._tell_all()

    async def run(self) -> None:
        """Until cancelled. What is not told by then is told at the end, as far as the log takes it."""
        try:
            await self.worker.run()
        finally:
            await self._flush()

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._tell_waiting()
        except (TimeoutError, EventError) as away:
            log.error("%d facts about certificates could not be written and are lost: %s", len(self._facts), away)

    async def _tell_all(self) -> None:
        for each in self.standing.certificates:
            if each.warning:
                self._warn(each)
        await self._tell_waiting()

    async def _tell_waiting(self) -> None:
        while self._facts:
            await self._tell(*self._facts[0])
            self._facts.popleft()

    def _begin(self, identity: Identity) -> None:
        """State what our files were at first."""
        if not self._began:
            self._began = True
            for role, held in ((CA, identity.authorities), (CLIENT, (identity.client,))):
                self._facts.append((_used(self._instance, role, held), uuid7()))

    @property
    def _credentials(self) -> Credentials:
        return self._daemon.credentials

    def _held(self) -> Sequence[tuple[str, Certificate]]:
        shown = [(DAEMON, self._shown)] if self._shown is not None else []
        if (identity := self._credentials.in_use) is None:
            return shown
        return [*((CA, each) for each in identity.authorities), (CLIENT, identity.client), *shown]

    def _changed(self, change: Taken | Refused) -> None:
        if isinstance(change, Taken):
            self._begin(change.before)
            for fact in rotations(change.before, change.after, self._instance):
                self._rotate(fact)
        else:
            log.warning(
                "new certificate files are not used, those before stay: %s",
                change.detail,
                extra={"operation": "certificates"},
            )
            refused = CertificateRefused(instance=self._instance, reason=change.reason, detail=change.detail)
            self._facts.append((refused, uuid7()))
        self.worker.poke()

    def _show(self, shown: Certificate) -> None:
        if self._shown is None:
            self._facts.append((_used(self._instance, DAEMON, (shown,)), uuid7()))
        elif self._shown != shown:
            self._rotate(_rotated(self._instance, DAEMON, (shown,), (self._shown,)))
        self._shown = shown

    def _rotate(self, fact: CertificateRotated) -> None:
        told = [f"one that ends at {not_after.isoformat()} is in use" for _, not_after in fact.added]
        told += [f"{sha256} is no longer" for sha256, _ in fact.removed]
        extra = {"operation": "certificates"}
        log.info("certificates were replaced (%s): %s", fact.role, "; ".join(told), extra=extra)
        self._facts.append((fact, uuid7()))

    def _warn(self, each: InUse) -> None:
        now = self._recorder.now()
        if each.sha256 not in self._logged or now - self._logged[each.sha256] >= REMIND:
            self._logged[each.sha256] = now
            log.warning("%s", _sentence(each), extra={"operation": "certificates"})
        if each.sha256 not in self._warned:
            self._warned.add(each.sha256)
            fact = CertificateExpiryWarned(
                instance=self._instance, role=each.role, sha256=each.sha256, not_after=each.not_after
            )
            self._facts.append((fact, named(tag_of(fact), self._instance, each.sha256)))

    async def _tell(self, fact: Fact, event_id: UUID) -> None:
        """In the log, or in the spool while the log is away."""
        who, stream_id = Who(kind=ActorKind.GATEWAY, id=self._instance), gateway_stream(self._instance)
        with telemetry.span("gateway.certificate", root=True):
            cause = context.cause()
            await until_stored(lambda: self._recorder.fact(stream_id, fact, who=who, cause=cause, event_id=event_id))


def certificate_watch(
    recorder: Recorder, docker: DockerService, instance: str, settings: DockerSettings
) -> CertificateWatch | None:
    """The watch of one process, with its gauge; None for a runtime that has no certificates."""
    if not isinstance(docker, AiodockerService):
        return None
    made = CertificateWatch(recorder, docker, instance, days=settings.certificate_warning_days)

    def seconds_left() -> list[tuple[str, str, float]]:
        now = recorder.now()
        return [(each.role, each.sha256, (each.not_after - now).total_seconds()) for each in made.standing.certificates]

    metrics.watch_certificates(telemetry.meter(), instance, seconds_left)
    return made


def _in_use(role: str, each: Certificate, *, now: datetime, days: int) -> InUse:
    left = each.not_after - now
    return InUse(
        role=role,
        sha256=each.sha256,
        not_after=each.not_after,
        days_left=left.days,
        warning=left / DAY < days or left <= timedelta(),  # whatever the setting, a number of days may be too many
    )


def _sentence(each: InUse) -> str:
    day = f"{each.not_after:%Y-%m-%d %H:%M} UTC"
    if each.days_left < 0:
        return f"{_WHOSE[each.role]} certificate has ended, at {day}: replace it."
    return f"{_WHOSE[each.role]} certificate ends in {each.days_left} days, at {day}: replace it before."


def _rotated(
    instance: str, role: str, added: Iterable[Certificate], removed: Iterable[Certificate]
) -> CertificateRotated:
    return CertificateRotated(instance=instance, role=role, added=_named(added), removed=_named(removed))


def _used(instance: str, role: str, held: Iterable[Certificate]) -> CertificateUsed:
    return CertificateUsed(instance=instance, role=role, certificates=_named(held))


def _named(held: Iterable[Certificate]) -> tuple[NamedCertificate, ...]:
    return tuple((each.sha256, each.not_after) for each in held)
