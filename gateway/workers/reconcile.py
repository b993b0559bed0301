"""Reconcile: the log against the runtime. ``plan`` is pure; ``Reconciler`` carries it out under a lease.

Run at start, every interval and whenever a container ended. Foreign containers are never touched: only those that
carry this log's label are looked at, and only what the log knows is repaired.
"""

import asyncio
import enum
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from docker import names
from docker.errors import DockerError
from docker.service import ContainerInfo, ContainerState, DockerService
from events.catalogue import GatewayCrashed
from events.envelope import ActorKind, gateway_stream
from events.ids import named
from gateway.recorder import Who
from gateway.services import Services
from gateway.sessions.commands import MarkFailed
from gateway.sessions.handler import Origin
from projections.gateways import GatewayState
from projections.lifecycle import SEATED, Phase
from projections.session_state import SessionState

LEASE: Final = "reconcile"
INSTANCE_LEASE: Final = "gateway-"
log = logging.getLogger("session_gateway.reconcile")


class Do(enum.StrEnum):
    """What is to be done about one session or container."""

    OPEN = "open"  # creating, and nobody carries it: go on
    STOP = "stop"  # stopping, and nobody carries it: go on
    ADOPT = "adopt"  # it runs, but for another instance or at another address than the log says
    DIED = "died"  # ready in the log, ended in the runtime
    LOST = "lost"  # ready in the log, unknown to the runtime
    REMOVE = "remove"  # a container that no session wants
    ERASE = "erase"  # kept data of an ended session whose subject was erased


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
    erased: Collection[str] = (),
) -> list[Action]:
    """What makes the world equal to the log. ``alive``: instances that hold their lease; ``busy``: sessions being
    carried out by this one. The list of containers is older than the sessions: an intent precedes its container."""
    found = {info.name: info for info in containers}
    actions = []
    for state in sessions.values():
        if state.phase not in SEATED or state.runtime != runtime or state.session_id in busy:
            continue
        if state.instance != instance and state.instance in alive:
            continue  # another gateway carries it
        action = _repair(state, found.get(state.container), instance)
        if action is not None:
            actions.append(action)
    for state in sessions.values():
        kept = state.phase in (Phase.STOPPED, Phase.FAILED) and state.volumes and state.runtime == runtime
        if kept and state.session_id not in busy and _subject_key(state) in erased:
            actions.append(Action(Do.ERASE, state.session_id, state.container))
    wanted = {state.container for state in sessions.values() if state.phase in SEATED}
    for info in containers:
        session_id = info.labels.get(names.SESSION, "")
        if info.name not in wanted and session_id not in busy:
            actions.append(Action(Do.REMOVE, session_id, info.name, info))
    return actions


def _subject_key(state: SessionState) -> str | None:
    """The key that the session's personal fields are sealed with."""
    sealed = state.owner or state.metadata
    return sealed.k if sealed else None


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

    async def announce(self) -> None:
        """Take, or keep, the lease that says that this instance lives."""
        instance = self._services.instance
        await self._services.leases.claim(INSTANCE_LEASE + instance, instance)

    async def run_once(self) -> None:
        """One comparison and its repairs. Raises DockerError, StoreUnavailable: the next round tries again."""
        services = self._services
        await self.announce()
        first = await services.leases.claim(LEASE, services.instance) is not None
        containers = await services.docker.list_containers(all=True, labels=names.owned_by(str(services.store.log_id)))
        await services.views.catch_up_to_head()
        gateways, sessions = services.views.gateways, services.views.sessions
        alive = await services.leases.alive(INSTANCE_LEASE) if first else frozenset(gateways)
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
            erased=services.views.erased if first else (),
        ):
            await self._carry_out(action)

    def _mine(self, info: ContainerInfo) -> bool:
        state = self._services.views.sessions.get(info.labels.get(names.SESSION, ""))
        return state is not None and state.instance == self._services.instance

    async def _carry_out(self, action: Action) -> None:
        log.info(
            "reconciling: %s %s",
            action.do.value,
            action.container,
            extra={"session_id": action.session_id, "operation": "reconcile"},
        )
        state = self._services.views.sessions.get(action.session_id)
        match action.do:
            case Do.OPEN:
                self._services.runner.open(action.session_id)
            case Do.STOP:
                self._services.runner.stop(action.session_id)
            case Do.ADOPT if state is not None and action.info is not None:
                await self._services.observer.adopted(state, action.info)
            case Do.DIED if state is not None and action.info is not None:
                await self._services.observer.died(state, action.info)
                await self._fail(state, "container_died", f"The container ended (exit code {action.info.exit_code}).")
            case Do.LOST if state is not None:
                await self._services.observer.lost(state, action.info)
                await self._fail(state, "container_lost", "The container was gone when the gateway looked for it.")
            case Do.ERASE if state is not None:
                await self._erase(state)
            case Do.REMOVE:
                await self._remove(action, state)

    async def _fail(self, state: SessionState, reason: str, detail: str) -> None:
        command = MarkFailed(session_id=state.session_id, generation=state.generation, reason=reason, detail=detail)
        await self._services.handler.handle(command, Origin(who=self._who))
        self._services.runner.clean(state.session_id)

    async def _erase(self, state: SessionState) -> None:
        for volume in state.volumes:
            await self._services.docker.remove_volume(volume)
        await self._services.observer.data_removed(state)

    async def _remove(self, action: Action, state: SessionState | None) -> None:
        await self._services.docker.remove_container(action.container, force=True)
        if state is not None and action.container in state.containers:
            generation = state.containers.index(action.container) + 1
            await self._services.observer.removed(
                msgspec.structs.replace(state, container=action.container, generation=generation)
            )

    async def _tell_crash(self, instance: str) -> None:
        await self._services.recorder.fact(
            gateway_stream(instance),
            GatewayCrashed(instance=instance, found_by=self._services.instance),
            who=self._who,
            event_id=named("gateway.crashed", instance),
        )


async def watch(docker: DockerService, ended: Callable[[], None]) -> None:
    """Call ``ended`` when a container of ours ends, until cancelled. A hint: the list is the truth."""
    while True:
        try:
            async for event in docker.events():
                if names.OWNER in event.labels:
                    ended()
            return  # the runtime was closed
        except DockerError as error:
            log.warning("the runtime's events stopped: %s", error, extra={"operation": "watch"})
            await asyncio.sleep(1)
            ended()
