"""The projection ``gateways``: which instances started and how they ended; an open end without a lease is a crash."""

from datetime import datetime
from typing import Final

import msgspec

from events.catalogue import GatewayCrashed, GatewayStarted, GatewayStopped, Payload
from events.envelope import RecordedEvent
from events.registry import tags


class GatewayState(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one gateway process."""

    instance: str
    started_at: datetime
    ended_at: datetime | None = None
    crashed: bool = False


class Gateways:
    """Instances by name."""

    name: Final = "gateways"
    version: Final = 1
    types: Final = tags(GatewayStarted, GatewayStopped, GatewayCrashed)

    def key(self, payload: Payload) -> str | None:
        return payload.instance if isinstance(payload, GatewayStarted | GatewayStopped | GatewayCrashed) else None

    def evolve(self, state: GatewayState | None, event: RecordedEvent, payload: Payload) -> GatewayState | None:
        if state is not None and event.recorded_at < state.started_at:
            return state  # told again: it came before the beginning and ended nothing then
        match payload:
            case GatewayStarted() if state is None:
                return GatewayState(instance=payload.instance, started_at=event.recorded_at)
            case GatewayStopped() if state is not None and (state.ended_at is None or state.crashed):
                return msgspec.structs.replace(state, ended_at=event.recorded_at, crashed=False)
            case GatewayCrashed() if state is not None and state.ended_at is None:
                return msgspec.structs.replace(state, ended_at=event.recorded_at, crashed=True)
            case _:
                return state
