"""Reconcile: the log against the runtime. ``plan`` is pure; ``Reconciler`` carries it out under a lease.

Run at start, every interval and whenever a container ended. Foreign containers are never touched: only those that
carry this log's label are looked at, and only what the log knows is repaired.
"""

import enum
import logging
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from docker import names
from docker.errors import DockerError
from docker.service import ContainerEvent, ContainerInfo, ContainerState
from events.catalogue import GatewayCrashed
from events.codec import Cause
from events.envelope import ActorKind, gateway_stream
from events.errors import StoreUnavailable
from events.ids import named
from gateway import context, telemetry
from gateway.recorder import Who
from gateway.services import Services
from gateway.sessions.commands import MarkFailed
from gateway.sessions.handler import Origin
from gateway.sessions.observe import because, died_id, lost_id
from gateway.sessions.runner import NOT_ISOLATED, caused_by, end_of
from gateway.workers.departures import Departures, told
from gateway.workers.exhaustion import Exhaustion
from projections.gateways import GatewayState
from projections.lifecycle import SEATED, Phase
from projections.session_state import SessionState

LEASE: Final = "reconcile-"  # one holder for each kind of runtime: who has no Docker cannot repair its sessions
INSTANCE_LEASE: Final = "gateway-"
GRACE_SECONDS: Final = 2.0  # after the log was away, for the others to say that they live
log = logging.getLogger("session_gateway.reconcile")


class Do(enum.StrEnum):
    """What is to be done about one session or container."""

    OPEN = "open"  # creating, and nobody carries it: go on
    STOP = "stop"  # stopping, and nobody carries it: go on
    ADOPT = "adopt"  # it runs, but for another instance or at another address than the log says
    DIED = "died"  # ready in the log, ended in the runtime
    REFUSE = "refuse"  # ready in the log, and its container does not isolate
    LOST = "lost"  # ready in the log, unknown to the runtime
    REMOVE = "remove"  # a container that no session wants


_OF_READY: Final = frozenset({Do.ADOPT, Do.REFUSE, Do.DIED, Do.LOST})


class Action(msgspec.Struct, frozen=True):
    do: Do
    session_id: str
    container: str
    info: ContainerInfo | None = None


def plan(
    sessions: Mapping[str, SessionState],
    containers: Collection[ContainerInfo],
    *,
    runtime: str,
    instance: str,
    alive: Collection[str],
    busy: Collection[str],
) -> list[Action]:
    """What makes the world equal to the log. ``alive``: instances that hold their lease; ``busy``: sessions being
    carried out by this one. The list of containers is older than the sessions: an intent precedes its container."""
    found = {info.name: info for info in containers}
    actions = []
    seated = [state for state in sessions.values() if state.phase in SEATED]
    for state in sorted(seated, key=lambda each: each.intent_position):  # as the boots are to follow
        if state.runtime != runtime or state.session_id in busy:
            continue
        if state.instance != instance and state.instance in alive:
            continue  # another gateway carries it
        action = _repair(state, found.get(state.container), instance)
        if action is not None:
            actions.append(action)
    wanted = {state.container for state in seated}
    for info in containers:
        session_id = info.labels.get(names.SESSION, "")
        owner = sessions[session_id].instance if session_id in sessions else ""
        if info.name not in wanted and session_id not in busy and (owner == instance or owner not in alive):
            actions.append(Action(Do.REMOVE, session_id, info.name, info))
    return actions


def _repair(state: SessionState, info: ContainerInfo | None, instance: str) -> Action | None:
    match state.phase:
        case Phase.CREATING:
            return Action(Do.OPEN, state.session_id, state.container)
        case Phase.STOPPING:
            return Action(Do.STOP, state.session_id, state.container)
    if info is None:
        return Action(Do.LOST, state.session_id, state.container)
    if info.state in (ContainerState.EXITED, ContainerState.DEAD):
        found_late = state.instance != instance  # it ended while no gateway looked
        return Action(Do.LOST if found_late else Do.DIED, state.session_id, state.container, info)
    if info.breaches:
        return Action(Do.REFUSE, state.session_id, state.container, info)
    if info.address is None:
        return None  # paused, or on its way down: the next look tells
    moved = (info.address.host, info.address.port) != (state.host, state.port)
    if moved or state.instance != instance:
        return Action(Do.ADOPT, state.session_id, state.container, info)
    return None


def crashed(gateways: Mapping[str, GatewayState], alive: Collection[str], instance: str) -> list[str]:
    """Instances whose end nobody told."""
    return sorted(
        state.instance
        for state in gateways.values()
        if state.ended_at is None and state.instance not in alive and state.instance != instance
    )


class Reconciler:
    """Carries out the plan. Every gateway repairs its own sessions; those of dead ones, and containers that nobody
    wants, are repaired by the one that holds the lease."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._who = Who(kind=ActorKind.GATEWAY, id=services.instance)
        self._lease = LEASE + services.docker.runtime
        self._grace_until = time.monotonic() + GRACE_SECONDS  # the log may just be back
        self._exhaustion = Exhaustion(
            services.store,
            services.views,
            services.runner,
            services.observer,
            instance=services.instance,
            runtime=services.docker.runtime,
            now=services.recorder.now,
        )
        self._departures = Departures(services.views, services.instance)

    def exhausted(self, event: ContainerEvent) -> bool:
        """The kernel killed a process in a container; True when that is reason for a round."""
        return self._exhaustion.heard(event)

    async def announce(self) -> None:
        """Take, or keep, the lease that says that this instance lives."""
        instance = self._services.instance
        await self._services.leases.claim(INSTANCE_LEASE + instance, instance)

    async def resign(self) -> None:
        """Give the leases back, so that the others need not wait for them to run out."""
        instance = self._services.instance
        await self._services.leases.release(self._lease, instance)
        await self._services.leases.release(INSTANCE_LEASE + instance, instance)

    async def run_once(self) -> None:
        """One comparison and its repairs. Raises DockerError, StoreUnavailable: the next round tries again."""
        try:
            await self._compare_and_repair()
        except StoreUnavailable:
            self._grace_until = time.monotonic() + GRACE_SECONDS
            raise

    async def _compare_and_repair(self) -> None:
        services = self._services
        first = await services.leases.claim(self._lease, services.instance) is not None
        containers = await services.docker.list_containers(all=True, labels=names.owned_by(str(services.store.log_id)))
        await services.views.catch_up_to_head()
        await self._exhaustion.run_once(containers)
        self._departures.tell(containers)
        gateways, sessions = services.views.gateways, services.views.sessions
        alive = await self._alive() if first else frozenset(gateways)
        if first:
            for instance in crashed(gateways, alive, services.instance):
                await self._tell_crash(instance)
        for action in plan(
            sessions,
            containers if first else [info for info in containers if self._mine(info)],
            runtime=services.docker.runtime,
            instance=services.instance,
            alive=alive,
            busy=[session_id for session_id in sessions if services.runner.busy(session_id)],
        ):
            try:
                await self._carry_out(action)
            except DockerError as error:  # one container that cannot be removed must not keep the others waiting
                log.warning("%s %s failed: %s", action.do.value, action.container, error, extra=_about(action))

    async def _alive(self) -> frozenset[str]:
        """Instances that hold their lease. While the log was away nobody could keep it, so silence means nothing."""
        alive = await self._services.leases.alive(INSTANCE_LEASE)
        if time.monotonic() < self._grace_until:
            alive |= {state.instance for state in self._services.views.gateways.values() if state.ended_at is None}
        return alive

    def _mine(self, info: ContainerInfo) -> bool:
        state = self._services.views.sessions.get(info.labels.get(names.SESSION, ""))
        return state is not None and state.instance == self._services.instance

    async def _carry_out(self, action: Action) -> None:
        state = self._services.views.sessions.get(action.session_id)
        if action.do in _OF_READY and not await self._still_so(action, state):
            return
        log.info("reconciling: %s %s", action.do.value, action.container, extra=_about(action))
        match action.do:
            case Do.OPEN:
                self._services.runner.open(action.session_id)
            case Do.STOP:
                self._services.runner.stop(action.session_id, take_over=True)
            case Do.ADOPT if state is not None and action.info is not None:
                async with self._reconciling(state) as cause:
                    await self._services.observer.adopted(state, action.info, cause)
            case Do.DIED if state is not None and action.info is not None:
                async with self._reconciling(state) as cause:
                    await self._services.observer.died(state, action.info, cause)
                    detail = f"The container ended ({end_of(action.info)})."
                    log.warning("%s", detail, extra=_about(action))
                    await self._fail(state, "container_died", detail, because(cause, died_id(action.info)))
            case Do.REFUSE if state is not None and action.info is not None:
                async with self._reconciling(state) as cause:
                    log.error("a session's container does not isolate: %s", told(action.info), extra=_about(action))
                    await self._fail(state, "limits_not_applied", NOT_ISOLATED, cause)
            case Do.LOST if state is not None:
                async with self._reconciling(state) as cause:
                    await self._services.observer.lost(state, action.info, cause)
                    detail = "The container was gone when the gateway looked for it."
                    await self._fail(state, "container_lost", detail, because(cause, lost_id(state)))
            case Do.REMOVE:
                await self._remove(action, state)

    async def _still_so(self, action: Action, state: SessionState | None) -> bool:
        """The actions before took time, and the list is older than the sessions: it may lack a container that became
        ready meanwhile."""
        if state is None or state.phase is not Phase.READY or state.container != action.container:
            return False
        if action.do in (Do.ADOPT, Do.REFUSE):
            return True
        info = await self._services.docker.get_container_info(action.container)
        return info is None or info.state in (ContainerState.EXITED, ContainerState.DEAD)

    @asynccontextmanager
    async def _reconciling(self, state: SessionState) -> AsyncIterator[Cause]:
        """What is found now belongs to the session's newest intent: its request, its trace, and caused by it."""
        intent = await self._services.runner.intent(state.session_id)
        with telemetry.span("session.reconcile", attributes={"session.id": state.session_id}, parent=intent) as span:
            yield caused_by(intent, span)

    async def _fail(self, state: SessionState, reason: str, detail: str, cause: Cause) -> None:
        command = MarkFailed(session_id=state.session_id, generation=state.generation, reason=reason, detail=detail)
        await self._services.handler.handle(command, Origin(who=self._who, cause=cause))
        self._services.runner.clean(state)

    async def _remove(self, action: Action, state: SessionState | None) -> None:
        await self._services.docker.remove_container(action.container, force=True)
        if state is not None and action.container in state.containers:
            generation = state.containers.index(action.container) + 1
            former = msgspec.structs.replace(state, container=action.container, generation=generation)
            async with self._reconciling(state) as cause:
                await self._services.observer.removed(former, cause)

    async def _tell_crash(self, instance: str) -> None:
        with telemetry.span("gateway.crash_found", root=True):
            await self._services.recorder.fact(
                gateway_stream(instance),
                GatewayCrashed(instance=instance, found_by=self._services.instance),
                who=self._who,
                cause=context.cause(),
                event_id=named("gateway.crashed", instance),
            )


def _about(action: Action) -> dict[str, str]:
    return {"session_id": action.session_id, "operation": "reconcile"}
