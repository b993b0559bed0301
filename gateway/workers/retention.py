"""Retention: the data of an ended session is given up when its owner was erased or its days are over; then removed.

``plan`` and ``leftovers`` are pure. The event comes first (``session.data_removed``, under the session's version): from
there on the session cannot be resumed, and one that was resumed before keeps its data. Then the volumes go. A volume
whose session has given its data up is a leftover, of this round or of a gateway that was killed within it; any other,
also of a session that the log does not know, is never touched. A folder of the host is not ours to remove.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from docker import names
from docker.errors import DockerError
from docker.service import VolumeInfo
from events.catalogue import ContainerRemoved, Payload, SessionFailed, SessionStopped, SubjectErased
from events.envelope import ActorKind, RecordedEvent
from gateway import context, telemetry
from gateway.recorder import Who
from gateway.services import Services
from gateway.sessions.commands import RemoveData
from gateway.sessions.decide import NOBODY, erasure_of
from gateway.sessions.handler import Origin
from gateway.workers.reconcile import LEASE
from projections.lifecycle import ENDED
from projections.session_state import SessionState

SECONDS: Final = 60.0
log = logging.getLogger("session_gateway.retention")


def plan(
    sessions: Mapping[str, SessionState],
    *,
    now: datetime,
    keep: timedelta | None,
    runtime: str,
    busy: Collection[str] = (),
    erased: Mapping[str, UUID] = NOBODY,
) -> list[RemoveData]:
    """Whose data is to be given up, and why. ``keep``: how long after the end; None, for ever.

    ``erased``: keys and sessions, each with the event that told it.
    """
    found = []
    for state in sessions.values():
        if state.phase not in ENDED or not state.volumes or state.runtime != runtime or state.session_id in busy:
            continue
        if erasure_of(state, erased):
            found.append(RemoveData(session_id=state.session_id, reason="erased"))
        elif keep is not None and state.ended_at is not None and (not keep or state.ended_at + keep <= now):
            found.append(RemoveData(session_id=state.session_id, reason="policy"))
    return found


def leftovers(
    volumes: Collection[VolumeInfo], sessions: Mapping[str, SessionState], *, runtime: str, busy: Collection[str] = ()
) -> list[VolumeInfo]:
    """Volumes of sessions that gave their data up, which is for ever: it does not matter which was looked at first."""
    given_up = {
        state.session_id
        for state in sessions.values()
        if state.phase in ENDED and not state.volumes and state.runtime == runtime and state.session_id not in busy
    }
    return [volume for volume in volumes if volume.labels.get(names.SESSION) in given_up]


class Retention:
    """Carries the plan out, where this gateway is the one that repairs what is nobody's (``reconcile``)."""

    def __init__(self, services: Services) -> None:
        self._services = services
        days = services.settings.sessions.session_data_keep_days
        self._keep = timedelta(days=float(days)) if days else None

    async def run_once(self) -> None:
        """Raises DockerError, StoreUnavailable, Refused: the next round goes on."""
        services = self._services
        runtime, views = services.docker.runtime, services.views
        if await services.leases.claim(LEASE + runtime, services.instance) is None:
            return
        await views.catch_up_to_head()
        now = services.recorder.now()
        for command in plan(
            views.sessions, now=now, keep=self._keep, runtime=runtime, busy=self._busy(), erased=views.erased
        ):
            await self._give_up(command)
        # Only now: what is decided does not wait for a daemon in trouble.
        volumes = await services.docker.list_volumes(names.owned_by(str(services.store.log_id)))
        for volume in leftovers(volumes, views.sessions, runtime=runtime, busy=self._busy()):
            await self._remove(volume)

    def _busy(self) -> list[str]:
        return [session_id for session_id in self._services.views.sessions if self._services.runner.busy(session_id)]

    async def _give_up(self, command: RemoveData) -> None:
        services = self._services
        with telemetry.span("session.give_up", attributes={"session.id": command.session_id}, root=True):
            cause = context.cause()
            if command.reason == "erased":
                erasure = erasure_of(services.views.sessions[command.session_id], services.views.erased)
                cause = msgspec.structs.replace(cause, causation_id=erasure)
            who = Who(kind=ActorKind.GATEWAY, id=services.instance)
            await services.handler.handle(command, Origin(who=who, cause=cause))
        log.info("data is given up: %s", command.reason, extra=_about(command.session_id))

    async def _remove(self, volume: VolumeInfo) -> None:
        try:
            await self._services.docker.remove_volume(volume.name)
        except DockerError as error:  # such as the container of a session that failed, which is being removed
            log.info("a volume is not removed yet: %s", error, extra=_about(volume.labels.get(names.SESSION, "")))

    def follow(self, poke: Callable[[], None]) -> Callable[[RecordedEvent, Payload], None]:
        """A hook of ``views.on_event`` that pokes when there may be something to give up or remove."""

        def look(event: RecordedEvent, payload: Payload) -> None:
            if isinstance(payload, SubjectErased):
                poke()
            elif isinstance(payload, SessionStopped | SessionFailed | ContainerRemoved):
                state = self._services.views.sessions.get(payload.session_id)
                if state is not None and self._goes_soon(state):
                    poke()

        return look

    def _goes_soon(self, state: SessionState) -> bool:
        erased = erasure_of(state, self._services.views.erased) is not None
        return erased or not state.volumes or self._keep == timedelta(0)


def _about(session_id: str) -> dict[str, str]:
    return {"session_id": session_id, "operation": "retention"}
