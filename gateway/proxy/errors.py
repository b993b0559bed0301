"""What can go wrong on the byte path; the class name says whose fault it is. Statuses are in ``gateway/errors.py``."""


class ProxyError(Exception):
    """Base of this room. The message is one sentence that a person can act on; it never quotes bytes of a request."""


class ContainerUnreachable(ProxyError):
    """No connection to the container: refused, no route, or not made within ``proxy_connect_timeout``."""


class ContainerTimedOut(ProxyError):
    """Connected, but too long it sent nothing (``proxy_read_timeout``) or took nothing (``proxy_write_timeout``)."""


class ContainerProtocolError(ProxyError):
    """What it sent is not one unambiguous HTTP/1.1 response or websocket handshake; its connection is closed."""


class ContainerBroke(ProxyError):
    """It ended the connection in mid-answer, or before one. Bytes that came before were already passed on."""


class ContainerRefusedUs(ProxyError):
    """It answered 401 to the credential that the gateway added: the gateway's problem, never the client's."""


class GatewayBusy(ProxyError):
    """Every connection or stream that the settings allow is in use. Retry later; nothing was sent to the container."""


class ExchangeCut(ProxyError):
    """The gateway ended the exchange itself: a drain, a session that stops, a token that no longer holds."""


class BodyTooLarge(ProxyError):
    """The request's body is over ``proxy_max_body_bytes``. The client's fault; the container saw a cut request."""


class ClientLeft(ProxyError):
    """The client ended the exchange before its answer did; there is nobody to answer."""


class Unrecorded(ProxyError):
    """Its opening could not be made durable (``access_durability``), so it was not forwarded. Retry later."""
