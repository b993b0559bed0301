"""PROXY_* and ACCESS_* values; read from the environment in ``gateway/settings.py``. PROXY_* have the specification's
defaults."""

from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ProxySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the byte path. Request/response exchanges and streams (SSE) are counted apart."""

    proxy_max_connections: Annotated[
        Count, msgspec.Meta(description="Connections to containers, busy and idle, that are not streams.")
    ] = 100
    proxy_max_keepalive_connections: Annotated[
        int, msgspec.Meta(ge=0, description="Idle connections to containers kept for the next request.")
    ] = 20
    proxy_keepalive_expiry: Annotated[
        Seconds, msgspec.Meta(description="Seconds after which an idle connection to a container is closed.")
    ] = 300.0
    proxy_connect_timeout: Annotated[
        Seconds, msgspec.Meta(description="Seconds to connect to a container, and to wait for a free connection.")
    ] = 10.0
    proxy_read_timeout: Annotated[
        Seconds, msgspec.Meta(description="Seconds without a byte from a container; not applied to SSE or websockets.")
    ] = 30.0
    proxy_write_timeout: Annotated[
        Seconds, msgspec.Meta(description="Seconds in which a container takes no byte of a request or message.")
    ] = 30.0
    proxy_max_streams: Annotated[
        Count, msgspec.Meta(description="SSE streams from containers open at once, in this process.")
    ] = 2000
    proxy_max_body_bytes: Annotated[
        int, msgspec.Meta(ge=0, description="Largest request body that is forwarded, in bytes.")
    ] = 256 * 1024 * 1024
    proxy_max_request_headers: Annotated[
        Count, msgspec.Meta(description="Header lines of a proxied request; more are refused.")
    ] = 100
    proxy_max_request_header_bytes: Annotated[
        Count, msgspec.Meta(description="Bytes of all header names and values of a proxied request.")
    ] = 16 * 1024
    proxy_max_response_headers: Annotated[
        Count, msgspec.Meta(description="Header lines of a container's response; more are an error of the container.")
    ] = 256
    proxy_max_response_header_bytes: Annotated[
        Count, msgspec.Meta(description="Bytes of a container's response head, or of its trailers.")
    ] = 64 * 1024
    proxy_websocket_max_message_bytes: Annotated[
        Count, msgspec.Meta(description="Largest websocket message from a container, in bytes.")
    ] = 16 * 1024 * 1024
    proxy_websocket_heartbeat: Annotated[
        Seconds,
        msgspec.Meta(description="Seconds between pings to a container; half of it unanswered ends the socket."),
    ] = 30.0


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How proxied exchanges are recorded. What each choice can lose: ``docs/what-the-log-cannot-show.md``."""

    access_durability: Annotated[
        Literal["behind", "before"],
        msgspec.Meta(
            description="behind: an exchange is recorded behind its answer; before: its opening is durable before it "
            "is forwarded, else it is refused"
        ),
    ] = "behind"
    access_events: Annotated[
        Literal["each", "summary"],
        msgspec.Meta(
            description="each: every exchange is an event; summary: one event a container and interval, denials and "
            "streams aside"
        ),
    ] = "each"
    access_summary_seconds: Annotated[
        Seconds, msgspec.Meta(description="the interval of ACCESS_EVENTS=summary: what a killed process may lose")
    ] = 60.0
