"""Runner: carries out what was decided: create, start, wait until ready; stop and remove.

It keeps no state of its own. Every step is preceded by its intent in the log and followed by its outcome; killed
anywhere, ``workers/reconcile`` reads the log and goes on, since every step may be repeated.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol
from uuid import UUID

import msgspec

from docker import host_dirs, names
from docker.errors import ContainerGone, DaemonDown, DockerError, HostDirRefused, ImageMissing, LimitsNotApplied
from docker.host_dirs import Folder
from docker.service import Address, Capability, ContainerInfo, ContainerState, DockerService
from events import codec
from events.codec import Cause
from events.envelope import ActorKind, RecordedEvent, StreamWrite, session_stream
from events.errors import StoreUnavailable
from gateway import telemetry
from gateway.access.tokens import Tokens
from gateway.control import Control
from gateway.errors import plain
from gateway.recorder import Recorder, Who
from gateway.sessions import agent
from gateway.sessions.agent import Agent
from gateway.sessions.commands import MarkFailed, MarkReady, MarkStopped
from gateway.sessions.folders import Folders
from gateway.sessions.handler import Origin, SessionHandler
from gateway.sessions.observe import Observer, because, died_id, until_stored
from gateway.sessions.settings import SessionSettings
from gateway.sessions.waiting import Boots, Lines, Turn
from projections.lifecycle import Phase
from projections.session_state import SessionState
from projections.views import Views

LOOK_SECONDS: Final = 1.0  # between two looks at a booting container's state
TRY_SECONDS: Final = 2.0  # for one whole answer of a booting agent
INTENTS_PAGE: Final = 20  # the intent is nearly always among the newest events
ENDED: Final = frozenset({ContainerState.EXITED, ContainerState.DEAD})
NOT_ISOLATED: Final = plain(LimitsNotApplied())
log = logging.getLogger("session_gateway.runner")


class BootFailed(Exception):
    """A session cannot become ready. ``reason`` is the word in ``session.failed``; ``fact``, if any, what caused it.

    ``detail`` is for the session's owner: it names no address and no path. ``said`` is what the log line says instead.
    """

    def __init__(self, reason: str, detail: str, *, fact: UUID | None = None, said: str | None = None) -> None:
        super().__init__(detail)
        self.reason, self.fact, self.said = reason, fact, said or detail


_REASONS: Final[tuple[tuple[type[DockerError], str], ...]] = (
    (ImageMissing, "image_missing"),
    (LimitsNotApplied, "limits_not_applied"),
    (DaemonDown, "daemon_down"),
    (HostDirRefused, "host_dir_refused"),
)


class Intent(Protocol):
    """An event, in the log or in the spool, that says what is to be carried out."""

    @property
    def event_id(self) -> UUID: ...
    @property
    def correlation_id(self) -> UUID | None: ...
    @property
    def trace_id(self) -> bytes | None: ...
    @property
    def span_id(self) -> bytes | None: ...


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the runner works with. ``spooled``: what this process wrote and the log does not have yet."""

    docker: DockerService
    control: Control
    recorder: Recorder
    views: Views
    handler: SessionHandler
    observer: Observer
    tokens: Tokens
    agent: Agent
    folders: Folders
    settings: SessionSettings
    instance: str
    spooled: Callable[[], Sequence[StreamWrite]] = tuple


class Runner:
    """One task a session, at most. What is asked for while the task does something else is looked at when it ends."""

    def __init__(self, parts: Parts, boots: int) -> None:
        self._parts = parts
        self._boots = Boots(boots)
        self.lines = Lines(parts.views, boots)  # of every gateway, as this process sees them
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()  # sessions whose task stops them
        self._again: set[str] = set()
        self._closed = False

    def busy(self, session_id: str) -> bool:
        """True while something of this session is being carried out here."""
        return session_id in self._tasks

    def open(self, session_id: str) -> None:
        """Bring a session that is ``creating`` to ready, or to failed. Once at a time; repeated calls are one."""
        if session_id in self._tasks:
            self._again.add(session_id)
        else:
            position = self._parts.views.sessions[session_id].intent_position
            self._spawn(session_id, self._boots.in_line(position, partial(self._open, session_id)))

    def stop(self, session_id: str, *, take_over: bool = False) -> None:
        """End a session that is ``stopping``; a boot under way is given up. Repeated calls are one.

        A session that another gateway carries is left to that one, unless the caller knows that it is gone, or the log
        is away, so that the other one cannot hear of it.
        """
        state = self._parts.views.sessions[session_id]
        if state.phase is not Phase.STOPPING or not (take_over or self._ours(state)):
            return
        if session_id in self._stopping:
            self._again.add(session_id)
            return
        before = self._tasks.pop(session_id, None)
        self._stopping.add(session_id)
        self._spawn(session_id, self._stop(session_id, before))

    def _ours(self, state: SessionState) -> bool:
        if state.instance == self._parts.instance:
            return True
        docker = self._parts.docker
        within_reach = state.runtime == docker.runtime and Capability.ADOPTION in docker.capabilities
        return within_reach and not self._parts.recorder.store.status.available

    def clean(self, state: SessionState) -> None:
        """Remove the container that a session failed with; its volumes stay."""
        if state.session_id not in self._tasks:
            self._spawn(state.session_id, self._clean(state))

    async def close(self) -> None:
        """Give up what is under way: the log says how far it came, and the next process goes on."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, session_id: str, work: Awaitable[None]) -> None:
        task = asyncio.create_task(self._guarded(session_id, work), name=f"runner-{session_id}")
        self._tasks[session_id] = task
        task.add_done_callback(lambda done: self._forget(session_id, done))

    def _forget(self, session_id: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(session_id) is not done:
            return
        del self._tasks[session_id]
        self._stopping.discard(session_id)
        if session_id not in self._again or self._closed:
            return
        self._again.discard(session_id)
        match self._parts.views.sessions[session_id].phase:
            case Phase.CREATING:
                self.open(session_id)
            case Phase.STOPPING:
                self.stop(session_id, take_over=True)

    async def _guarded(self, session_id: str, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception:
            # Nobody waits for this task. The session keeps its phase, and reconciliation takes it up again.
            log.exception("carrying out a session failed", extra={"session_id": session_id, "operation": "run_session"})

    async def _open(self, session_id: str, turn: Turn) -> None:
        intent = await until_stored(lambda: self.intent(session_id))
        state = self._parts.views.sessions[session_id]
        if state.phase is not Phase.CREATING:
            return
        with telemetry.span("session.open", attributes={"session.id": session_id}, parent=intent) as span:
            cause = caused_by(intent, span)
            try:
                async with turn:
                    boot_us = await self._boot(state, cause)
            except BootFailed as failure:
                await self._fail(state, failure, cause)
            else:
                await self._mark(MarkReady(session_id=session_id, generation=state.generation, boot_us=boot_us), cause)
                log.info("session is ready", extra={"session_id": session_id, "duration_ms": boot_us / 1000})

    async def _boot(self, state: SessionState, cause: Cause) -> int:
        """Microseconds from the start of the container to its first answer."""
        docker = self._parts.docker
        labels = names.labels(str(self._parts.recorder.store.log_id), state.session_id, state.container)
        folder: Folder | None = None
        try:
            folder = await until_stored(lambda: self._parts.folders.of(state))
            await end_former(self._parts, state, cause)
            info = await docker.create_container(
                state.container,
                state.image,
                environment=self._parts.agent.environment_for(self._parts.tokens.credential(state.container)),
                labels=labels,
                volumes=agent.mounts(state.volumes, labels, folder.path if folder else None),
                port=agent.PORT,
            )
            await self._parts.observer.created(state, info, cause)
            began = time.monotonic_ns()
            await docker.start_container(info.id)
            info = await self._running(state, cause)
            if folder is not None:
                await asyncio.to_thread(host_dirs.verify, folder)
            await self._parts.observer.started(state, info, cause)
            await self._wait_ready(state, info, cause)
            return (time.monotonic_ns() - began) // 1000
        except DockerError as error:
            raise boot_failed(error, folder) from error

    async def _running(self, state: SessionState, cause: Cause) -> ContainerInfo:
        info = await self._parts.docker.get_container_info(state.container)
        if info is None or info.address is None:
            fact = None
            if info is not None and info.state in ENDED:
                await self._parts.observer.died(state, info, cause)
                fact = died_id(info)
            raise BootFailed(
                "container_died", f"The container ended right after its start ({end_of(info)}).", fact=fact
            )
        if info.breaches:  # published otherwise than was asked, above all: that shows after the start
            raise BootFailed("limits_not_applied", NOT_ISOLATED, said="; ".join(info.breaches))
        return info

    async def _wait_ready(self, state: SessionState, info: ContainerInfo, cause: Cause) -> None:
        assert info.address is not None
        authorization = self._parts.tokens.authorization(state.container)
        loop = asyncio.get_running_loop()
        seconds = self._parts.settings.session_ready_seconds
        deadline = loop.time() + seconds
        looked = loop.time()
        while not await self._answers(info.address, authorization, deadline):
            if loop.time() > deadline:
                raise await not_ready(self._parts.control, info.address, seconds)
            if loop.time() - looked > LOOK_SECONDS:
                looked = loop.time()
                await self._still_lives(state, info, cause)
            await self._parts.control.pause()

    async def _answers(self, address: Address, authorization: bytes, deadline: float) -> bool:
        """One try. An agent that sends a byte now and then would hold it, and the boot's slot, for ever."""
        try:
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + TRY_SECONDS)):
                return await self._parts.control.is_ready(address, authorization)
        except TimeoutError:
            return False

    async def _still_lives(self, state: SessionState, info: ContainerInfo, cause: Cause) -> None:
        now = await self._parts.docker.get_container_info(info.id)
        if now is not None and now.state is ContainerState.RUNNING:
            return
        fact = None
        if now is not None:
            await self._parts.observer.died(state, now, cause)
            fact = died_id(now)
        raise BootFailed("container_died", f"The container ended before it was ready ({end_of(now)}).", fact=fact)

    async def _fail(self, state: SessionState, failure: BootFailed, cause: Cause) -> None:
        log.warning(
            "session failed: %s",
            failure.said,
            extra={"session_id": state.session_id, "operation": "create_session", "reason": failure.reason},
        )
        await self._mark(
            MarkFailed(
                session_id=state.session_id,
                generation=state.generation,
                reason=failure.reason,
                detail=str(failure)[:500],
            ),
            cause if failure.fact is None else because(cause, failure.fact),
        )
        with contextlib.suppress(DockerError):  # reconciliation removes what stays behind
            await self._remove(state, cause)

    async def _stop(self, session_id: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        intent = await self._stop_intent(session_id)
        state = self._parts.views.sessions[session_id]
        with telemetry.span("session.stop", attributes={"session.id": session_id}, parent=intent) as span:
            cause = caused_by(intent, span)
            with contextlib.suppress(ContainerGone):
                await self._parts.docker.stop_container(state.container, self._parts.settings.session_stop_seconds)
            await self._remove(state, cause)
            await self._mark(MarkStopped(session_id=session_id, generation=state.generation), cause)
            log.info("session is stopped", extra={"session_id": session_id, "operation": "stop_session"})

    async def _clean(self, state: SessionState) -> None:
        await self._remove(state, caused_by(await until_stored(lambda: self.intent(state.session_id)), None))

    async def _remove(self, state: SessionState, cause: Cause) -> None:
        with contextlib.suppress(ContainerGone):
            await self._parts.docker.remove_container(state.container, force=True)
        await self._parts.observer.removed(state, cause)

    async def _mark(self, command: MarkReady | MarkFailed | MarkStopped, cause: Cause) -> None:
        origin = Origin(who=Who(kind=ActorKind.GATEWAY, id=self._parts.instance), cause=cause)
        await until_stored(lambda: self._parts.handler.handle(command, origin))

    async def _stop_intent(self, session_id: str) -> Intent | None:
        """A stop does not wait for the log: then its cause is what waits in the spool, or is not told."""
        try:
            return await self.intent(session_id)
        except StoreUnavailable:
            stream_id = session_stream(session_id)
            events = [
                event for write in self._parts.spooled() if write.stream_id == stream_id for event in write.events
            ]
            return next((event for event in reversed(events) if event.type.startswith("session.")), None)

    async def intent(self, session_id: str) -> RecordedEvent:
        """The newest lifecycle event of the session: what is being carried out."""
        store, limit = self._parts.recorder.store, INTENTS_PAGE
        while True:
            newest = await store.read_stream(session_stream(session_id), limit=limit, backwards=True)
            for event in newest:
                if event.type.startswith("session."):
                    return event
            if len(newest) < limit:
                raise LookupError(f"session {session_id} has no event")
            limit *= 10  # a token can be shown again any number of times


async def end_former(parts: Parts, state: SessionState, cause: Cause) -> None:
    """Remove what an earlier generation left: no two agents on the same data. Raises DockerError: then none starts."""
    if state.generation == 1:
        return
    mine = names.owned_by(str(parts.recorder.store.log_id)) | {names.SESSION: state.session_id}
    for info in await parts.docker.list_containers(all=True, labels=mine):
        if info.name == state.container or info.name not in state.containers:
            continue
        with contextlib.suppress(ContainerGone):
            await parts.docker.remove_container(info.name, force=True)
        generation = state.containers.index(info.name) + 1
        await parts.observer.removed(msgspec.structs.replace(state, container=info.name, generation=generation), cause)


async def not_ready(control: Control, address: Address, seconds: float) -> BootFailed:
    """A port that is out of reach is the operator's to mend, and another fault than an agent that is silent."""
    if await control.accepts(address):
        return BootFailed("not_ready", f"The agent gave no answer within {seconds:g} s.")
    said = f"nothing accepts a connection at {address.host}:{address.port}, where the session's port should be"
    hint = "its agent opened none, or we do not reach it (PUBLISH_ADDRESS, HOST_IP): python -m gateway doctor"
    plainly = f"The session's port could not be reached within {seconds:g} s; the gateway's log says where."
    return BootFailed("not_ready", plainly, said=f"{said}: {hint}")


def boot_failed(error: DockerError, folder: Folder | None) -> BootFailed:
    """The log line has the error's own words, but for the folder's name, which is personal."""
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "daemon_failed")
    said = str(error).replace(folder.path, "the folder") if folder else str(error)
    return BootFailed(reason, plain(error), said=said)


def caused_by(intent: Intent | None, span: "telemetry.Span | None") -> Cause:
    """What is carried out for ``intent``: caused by it, for the same request, within ``span``."""
    if intent is None:
        return codec.NO_CAUSE if span is None else Cause(trace_id=span.trace_id, span_id=span.span_id)
    return Cause(
        causation_id=intent.event_id,
        correlation_id=intent.correlation_id,
        trace_id=span.trace_id if span else intent.trace_id,
        span_id=span.span_id if span else intent.span_id,
    )


def end_of(info: ContainerInfo | None) -> str:
    """How a container ended, in words."""
    if info is None:
        return "it is gone"
    code = "exit code unknown" if info.exit_code is None else f"exit code {info.exit_code}"
    return f"{code}: killed for want of memory, see CONTAINER_MEMORY_LIMIT" if info.oom_killed else code


def address_of(state: SessionState) -> Address | None:
    """Where a ready session is reached."""
    if state.phase is not Phase.READY or state.host is None or state.port is None:
        return None
    return Address(state.host, state.port)
