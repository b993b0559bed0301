"""How one proxied exchange ended: what ``http`` and ``websocket`` hand back, and all that its event is made from."""

import enum

import msgspec

from gateway.proxy.errors import (
    BodyTooLarge,
    ClientLeft,
    ContainerRefusedUs,
    ExchangeCut,
    GatewayBusy,
    ProxyError,
    Unrecorded,
)


class EndedBy(enum.StrEnum):
    """Who ended the exchange. A whole answer is ended by the container, whoever closes the connection later."""

    CLIENT = "client"
    CONTAINER = "container"
    GATEWAY = "gateway"


def blame(error: ProxyError | None) -> EndedBy:
    """Who ended an exchange that ended with ``error``; None is a whole answer."""
    if isinstance(error, ClientLeft | BodyTooLarge):
        return EndedBy.CLIENT
    if isinstance(error, ExchangeCut | GatewayBusy | ContainerRefusedUs | Unrecorded):
        return EndedBy.GATEWAY
    return EndedBy.CONTAINER


class Opened(msgspec.Struct, frozen=True):
    """The container's head is there, or its websocket is open: what a stream's first event is made from."""

    status: int
    is_stream: bool
    first_byte_ns: int


class ExchangeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange, after its end. Sizes are of bodies and messages, without heads and framing."""

    status: int | None = None  # the container's status (101 for an open websocket); None when it gave none
    started: bool = False  # a status went to the client: nothing else can be answered any more
    is_stream: bool = False  # SSE or websocket
    unread: bool = False  # a part of the request may still come: answer with ``client.answer(..., unread=True)``
    bytes_in: int = 0  # from the client
    bytes_out: int = 0  # to the client
    first_byte_ns: int | None = None  # from the start until the container's head was read
    duration_ns: int = 0
    ended_by: EndedBy
    reason: str  # "complete", or one sentence without bytes of the exchange
    error: ProxyError | None = None  # set unless the exchange is complete
    close_code: int | None = None  # websockets: the code that ended it, as its sender gave it
