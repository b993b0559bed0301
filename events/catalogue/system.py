"""The gateway's own life. Stream ``gateway-{instance}``."""

import msgspec


class GatewayStarted(msgspec.Struct, frozen=True, kw_only=True, tag="gateway.started"):
    instance: str
    release: str
    runtime: str
    python: str
    server: str


class GatewayStopped(msgspec.Struct, frozen=True, kw_only=True, tag="gateway.stopped"):
    """A clean end: drained, flushed."""

    instance: str
    reason: str  # a word: signal, failed


class GatewayCrashed(msgspec.Struct, frozen=True, kw_only=True, tag="gateway.crashed"):
    """An instance ended without ``gateway.stopped``; written by the one that found out."""

    instance: str
    found_by: str
