"""hypercorn's websocket stream, mended in two places; ``install`` once in a process, before it serves.

1. A client that sends a byte before its handshake is answered gets 400 from hypercorn 0.18, and the application is
   never told: it waited for ever, with its socket to the container (20 of 20, measured). Here it is told at once.
2. hypercorn 0.18 reports every end by the client as 1006. Here code and reason of a close frame arrive as they were
   sent, so the container can be told the same.

Both are kept by tests on the wire; when a later hypercorn passes them without this module, it goes.
"""

from collections.abc import Iterator
from typing import Any

from hypercorn.protocol import h2, h11
from hypercorn.protocol.events import Event, StreamClosed
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.typing import WebsocketAcceptEvent
from wsproto.connection import Connection
from wsproto.events import CloseConnection

_ABNORMAL, _NO_STATUS = 1006, 1005


def install() -> None:
    """Have hypercorn use the mended stream for HTTP/1.1 and HTTP/2. Calling it again changes nothing."""
    h11.WSStream = WebsocketStream  # type: ignore[attr-defined] # the name under which the protocol makes its streams
    h2.WSStream = WebsocketStream  # type: ignore[attr-defined] # the same


class WebsocketStream(WSStream):
    """One websocket on the server's side; tells its application once, and rightly, that the client's side ended."""

    told = False
    close_frame: CloseConnection | None = None

    async def handle(self, event: Event) -> None:
        """Pass on what the connection brings; see the module for what differs."""
        if isinstance(event, StreamClosed):
            self.closed = True
        await super().handle(event)
        if self.closed and not self.told and self.app_put is not None:
            self.told = True
            await self.app_put(self._disconnect())

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        await super()._accept(message)
        self.connection = _Noting(self.connection, self)  # type: ignore[assignment] # same methods

    def _disconnect(self) -> dict[str, Any]:
        if self.close_frame is None:
            return {"type": "websocket.disconnect", "code": _ABNORMAL, "reason": ""}
        code = int(self.close_frame.code or _NO_STATUS)
        return {"type": "websocket.disconnect", "code": code, "reason": self.close_frame.reason or ""}


class _Noting:
    """A wsproto connection that keeps the client's close frame for its stream."""

    def __init__(self, connection: Connection, stream: WebsocketStream) -> None:
        self._connection, self._stream = connection, stream

    def events(self) -> Iterator[Any]:
        for event in self._connection.events():
            if isinstance(event, CloseConnection):
                self._stream.close_frame = event
            yield event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
