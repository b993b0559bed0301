"""Observe: facts from outside (created, started, died, removed, adopted, lost) -> append with expected ANY.

Their ids are made from what the runtime says, so that two observers of one fact write one event. While the log is away
a fact waits in the spool and has no position yet; without room there it is tried until it is in, or the process ends
(then reconciliation sees it again).
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from docker.service import ContainerInfo
from events import codec
from events.catalogue import (
    ContainerAdopted,
    ContainerCreated,
    ContainerDied,
    ContainerEvent,
    ContainerLost,
    ContainerMemoryExhausted,
    ContainerRemoved,
    ContainerStarted,
)
from events.codec import Cause
from events.envelope import ActorKind, container_stream
from events.errors import StoreUnavailable
from events.ids import named
from events.registry import tag_of
from gateway.recorder import Recorder, Who
from projections.session_state import SessionState

RETRY_SECONDS: Final = 0.5
T = TypeVar("T")


async def until_stored(write: Callable[[], Awaitable[T]]) -> T:
    """``write`` again and again while the log is away."""
    while True:
        try:
            return await write()
        except StoreUnavailable:
            await asyncio.sleep(RETRY_SECONDS)


def died_id(info: ContainerInfo) -> UUID:
    """The id of the ``container.died`` that tells this end, whoever tells it."""
    return named("container.died", info.id, str(info.finished_at))


def exhausted_id(container_id: str, minute: int | None = None) -> UUID:
    """The id of a ``container.memory_exhausted``, whoever tells it: the container's first, or that of a minute."""
    return named("container.memory_exhausted", container_id, *([] if minute is None else [str(minute)]))


def lost_id(state: SessionState) -> UUID:
    """The id of the ``container.lost`` of this generation, whoever tells it."""
    return named("container.lost", state.container, str(state.generation))


def because(cause: Cause, event_id: UUID) -> Cause:
    """The same request and span, and that event as what made it happen."""
    return msgspec.structs.replace(cause, causation_id=event_id)


class Observer:
    """Writes what happened to containers."""

    def __init__(self, recorder: Recorder, instance: str) -> None:
        self._recorder = recorder
        self._instance = instance
        self._gateway = Who(kind=ActorKind.GATEWAY, id=instance)

    async def created(self, state: SessionState, info: ContainerInfo, cause: Cause = codec.NO_CAUSE) -> int | None:
        payload = ContainerCreated(**_subject(state), container_id=info.id, image=info.image, runtime=state.runtime)
        return await self._tell(payload, (info.id,), cause)

    async def started(self, state: SessionState, info: ContainerInfo, cause: Cause = codec.NO_CAUSE) -> int | None:
        """``info`` is of a running container with an address."""
        assert info.address is not None
        payload = ContainerStarted(
            **_subject(state), container_id=info.id, host=info.address.host, port=info.address.port
        )
        return await self._tell(payload, (info.id, str(info.started_at), str(info.address.port)), cause)

    async def died(self, state: SessionState, info: ContainerInfo, cause: Cause = codec.NO_CAUSE) -> int | None:
        payload = ContainerDied(
            **_subject(state), container_id=info.id, exit_code=info.exit_code, oom_killed=info.oom_killed
        )
        who = Who(kind=ActorKind.CONTAINER, id=payload.container)
        return await self._append(payload, who, cause, died_id(info))

    async def memory_exhausted(
        self, state: SessionState, container_id: str, event_id: UUID, at: datetime | None, cause: Cause = codec.NO_CAUSE
    ) -> int | None:
        """``at``: the daemon's time of the kill; None when it was found later. Raises StoreUnavailable: tried again."""
        payload = ContainerMemoryExhausted(**_subject(state), container_id=container_id, found=at is None)
        who = Who(kind=ActorKind.CONTAINER, id=payload.container)
        stream_id = container_stream(payload.container)
        return await self._recorder.fact(stream_id, payload, who=who, cause=cause, event_id=event_id, occurred_at=at)

    async def removed(self, state: SessionState, cause: Cause = codec.NO_CAUSE) -> int | None:
        return await self._tell(ContainerRemoved(**_subject(state)), (state.container,), cause)

    async def adopted(self, state: SessionState, info: ContainerInfo, cause: Cause = codec.NO_CAUSE) -> int | None:
        """``info`` is of a running container with an address."""
        assert info.address is not None
        payload = ContainerAdopted(
            **_subject(state),
            container_id=info.id,
            host=info.address.host,
            port=info.address.port,
            instance=self._instance,
        )
        # A session can be moved to an address where it was before: its position tells the moves apart.
        moved = (info.address.host, str(info.address.port), str(state.position))
        return await self._tell(payload, (info.id, self._instance, *moved), cause)

    async def lost(self, state: SessionState, info: ContainerInfo | None, cause: Cause = codec.NO_CAUSE) -> int | None:
        payload = ContainerLost(
            **_subject(state),
            exit_code=info.exit_code if info else None,
            oom_killed=info.oom_killed if info else False,
        )
        return await self._append(payload, self._gateway, cause, lost_id(state))

    async def _tell(self, payload: ContainerEvent, name: tuple[str, ...], cause: Cause) -> int | None:
        return await self._append(payload, self._gateway, cause, named(tag_of(payload), *name))

    async def _append(self, payload: ContainerEvent, who: Who, cause: Cause, event_id: UUID) -> int | None:
        stream_id = container_stream(payload.container)
        return await until_stored(
            lambda: self._recorder.fact(stream_id, payload, who=who, cause=cause, event_id=event_id)
        )


def _subject(state: SessionState) -> dict[str, Any]:
    return {"container": state.container, "session_id": state.session_id, "generation": state.generation}
