"""Relay of one websocket: ASGI on one side, aiohttp to the container on the other, two pumps with backpressure.

The only importer of aiohttp. The container's leg has no compression, and follows no redirect: a container must not send
the gateway, with its credential, to another address. Pings are answered on each leg by its own peer.
"""

import asyncio
from collections.abc import Sequence
from time import monotonic_ns
from typing import Final

import aiohttp
import msgspec
from multidict import CIMultiDict
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from gateway.proxy.client import drain_in_background
from gateway.proxy.dialling import Dials
from gateway.proxy.errors import (
    ClientLeft,
    ContainerBroke,
    ContainerProtocolError,
    ContainerRefusedUs,
    ContainerTimedOut,
    ContainerUnreachable,
    ExchangeCut,
    ProxyError,
)
from gateway.proxy.headers import TOKEN_SUBPROTOCOL, Header, refuses_credential, to_client
from gateway.proxy.http import Forward, OnEnd, OnOpen
from gateway.proxy.result import EndedBy, ExchangeResult, Opened, blame
from gateway.proxy.settings import ProxySettings

GATEWAY_SUBPROTOCOL: Final = "session-gateway"
"""Offered by a browser beside its token, so that the handshake can answer with it: a browser that offers subprotocols
and gets none back gives up, and the container need not know any. Never passed on."""

_CLOSE_SECONDS: Final = 1.0  # for the container to answer a close frame
_REFUSAL_BYTES: Final = 64 * 1024  # of a refusing container's body that are passed on
_NORMAL, _GOING_AWAY, _INTERNAL_ERROR, _ABNORMAL = 1000, 1001, 1011, 1006


class _End(msgspec.Struct, frozen=True):
    """How a websocket ended, as the side that ended it said."""

    by: EndedBy
    code: int
    reason: str = ""
    error: ProxyError | None = None


class _Refused(Exception):
    """The container answered the handshake with something else than 101."""

    def __init__(self, status: int, headers: list[Header], body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.headers, self.body = status, headers, body


class ContainerSockets:
    """The door to containers' websockets. Made inside the event loop; ``aclose`` lets go of aiohttp.

    ``dials`` are the pool's: what refuses requests refuses websockets too.
    """

    def __init__(self, settings: ProxySettings, dials: Dials) -> None:
        self._settings, self._dials = settings, dials
        self._open = 0
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.proxy_connect_timeout),
            middlewares=(_stop_at_refusal,),
            auto_decompress=False,
            trust_env=False,
        )

    @property
    def open(self) -> int:
        """Websockets open now."""
        return self._open

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def relay(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        forward: Forward,
        on_open: OnOpen | None = None,
        on_end: OnEnd | None = None,
    ) -> ExchangeResult:
        """Carry one websocket and say how it ended. Failures are answered as ``result.error``, never raised.

        Called before ``websocket.accept``. While ``result.started`` is False the handshake is unanswered and the caller
        refuses it; a refusal by the container has been passed on. ``on_end`` is called exactly once, also when this
        task is cancelled.
        """
        socket = _Socket(
            scope, receive, send, forward=forward, settings=self._settings, dials=self._dials, on_open=on_open
        )
        end = _End(EndedBy.GATEWAY, _GOING_AWAY, error=ExchangeCut("The gateway ended the websocket."))
        self._open += 1
        try:
            end = await socket.run(self._session)
        finally:
            self._open -= 1
            result = socket.result(end)
            if on_end is not None:
                on_end(result)
        return result


class _Socket:
    """The state of one relay."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        forward: Forward,
        settings: ProxySettings,
        dials: Dials,
        on_open: OnOpen | None,
    ) -> None:
        self._scope, self._receive, self._asgi_send = scope, receive, send
        self._forward, self._settings, self._dials, self._on_open = forward, settings, dials, on_open
        self._begun_ns = monotonic_ns()
        self._first_byte_ns: int | None = None
        self._status: int | None = None
        self._started = False
        self._bytes_in = self._bytes_out = 0

    async def run(self, session: aiohttp.ClientSession) -> _End:
        """Handshake, pumps, close."""
        await self._receive()  # websocket.connect
        first = asyncio.create_task(self._next_message())
        try:
            return await self._connect_and_pump(session, first)
        except ProxyError as error:
            return _End(blame(error), _INTERNAL_ERROR, error=error)
        except _Refused as refused:
            return await self._pass_refusal(refused)
        finally:
            first.cancel()

    def result(self, end: _End) -> ExchangeResult:
        """What the caller records."""
        return ExchangeResult(
            status=self._status,
            started=self._started,
            is_stream=True,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            first_byte_ns=self._first_byte_ns,
            duration_ns=monotonic_ns() - self._begun_ns,
            ended_by=end.by,
            reason="complete" if end.error is None else str(end.error),
            error=end.error,
            close_code=end.code if self._status == 101 else None,
        )

    async def _connect_and_pump(self, session: aiohttp.ClientSession, first: asyncio.Task[Message]) -> _End:
        socket = await self._connect(session, first)
        end = _End(EndedBy.GATEWAY, _GOING_AWAY)
        try:
            await self._accept(socket)
            end = await self._pump(socket, first)
        finally:
            if end.by is not EndedBy.CLIENT:
                drain_in_background(self._receive)
            await _close(socket, end)
        if end.by is not EndedBy.CLIENT:
            await self._say_end(end)
        return end

    async def _say_end(self, end: _End) -> None:
        try:
            await self._send({"type": "websocket.close", "code": end.code, "reason": end.reason})
        except ClientLeft:
            pass  # both ends left at once; who ended it is known already

    async def _send(self, message: Message) -> None:
        try:
            await self._asgi_send(message)
        except OSError as error:  # a server may say so instead of websocket.disconnect (ASGI 2.4)
            raise ClientLeft("The client left its websocket.") from error

    async def _connect(
        self, session: aiohttp.ClientSession, first: asyncio.Task[Message]
    ) -> aiohttp.ClientWebSocketResponse[bool]:
        """Open the container's websocket; given up when the client leaves meanwhile."""
        connecting = asyncio.create_task(self._handshake(session))
        try:
            await asyncio.wait({connecting, first}, return_when=asyncio.FIRST_COMPLETED)
            if not connecting.done():
                raise ClientLeft("The client left before its websocket was open.")
            return connecting.result()
        finally:
            if not connecting.done():
                connecting.cancel()
                await asyncio.wait([connecting])

    async def _handshake(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse[bool]:
        address = self._forward.address
        host = f"[{address.host}]" if ":" in address.host else address.host
        try:
            return await self._dials.dial(address, lambda: self._connected(session, host))
        except TimeoutError as error:
            raise ContainerTimedOut("The container did not answer the websocket handshake in time.") from error
        except aiohttp.WSServerHandshakeError as error:
            raise ContainerProtocolError("The container's websocket handshake is not valid.") from error
        except aiohttp.ClientConnectorError as error:
            raise ContainerUnreachable("The container refuses connections.") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise ContainerBroke("The container closed the connection during the websocket handshake.") from error
        except aiohttp.ClientError as error:
            raise ContainerProtocolError("The container's handshake answer is not one clear response.") from error

    async def _connected(self, session: aiohttp.ClientSession, host: str) -> aiohttp.ClientWebSocketResponse[bool]:
        """One try; its time begins anew with each, so that a refusal is not told as slowness."""
        target = f"http://{host}:{self._forward.address.port}{self._forward.raw_target.decode('ascii')}"
        try:
            async with asyncio.timeout(self._settings.proxy_read_timeout):
                socket = await session.ws_connect(
                    URL(target, encoded=True),
                    headers=_handshake_headers(self._forward.headers),
                    protocols=offered_subprotocols(self._scope["subprotocols"]),
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
                    heartbeat=self._settings.proxy_websocket_heartbeat,
                    # aiohttp refuses the size itself
                    max_msg_size=self._settings.proxy_websocket_max_message_bytes + 1,
                )
        # It took the connection, whatever it said then.
        except (_Refused, aiohttp.WSServerHandshakeError, aiohttp.ServerDisconnectedError):
            self._dials.accepted(self._forward.address)
            raise
        self._dials.accepted(self._forward.address)
        return socket

    async def _accept(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        subprotocol = socket.protocol
        if subprotocol is None and GATEWAY_SUBPROTOCOL in self._scope["subprotocols"]:
            subprotocol = GATEWAY_SUBPROTOCOL
        self._status, self._first_byte_ns = 101, monotonic_ns() - self._begun_ns
        if self._on_open is not None:
            self._on_open(Opened(101, True, self._first_byte_ns))
        self._started = True
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": list(self._forward.added)})

    async def _pump(self, socket: aiohttp.ClientWebSocketResponse[bool], first: asyncio.Task[Message]) -> _End:
        """Both directions until one of them ends; the container's word counts when both do."""
        up = asyncio.create_task(self._client_to_container(socket, first))
        down = asyncio.create_task(self._container_to_client(socket))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not down.done() and isinstance(up.result().error, ContainerBroke):
                await asyncio.wait({down}, timeout=_CLOSE_SECONDS)  # its close frame is still to be read
            return down.result() if down.done() else up.result()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.wait({up, down})

    async def _client_to_container(
        self, socket: aiohttp.ClientWebSocketResponse[bool], first: asyncio.Task[Message]
    ) -> _End:
        message = await first
        while message["type"] != "websocket.disconnect":
            text, data = message.get("text"), message.get("bytes")
            try:
                async with asyncio.timeout(self._settings.proxy_write_timeout):
                    if text is not None:
                        await socket.send_str(text)
                        self._bytes_in += _size(text)
                    else:
                        await socket.send_bytes(data or b"")
                        self._bytes_in += len(data or b"")
            except TimeoutError as error:
                late = ContainerTimedOut("The container took no byte for proxy_write_timeout seconds.")
                late.__cause__ = error
                return _End(EndedBy.CONTAINER, _INTERNAL_ERROR, "container timed out", late)
            except (aiohttp.ClientConnectionResetError, ConnectionError) as error:
                broke = ContainerBroke("The container's websocket ended in mid-message.")
                broke.__cause__ = error
                return _End(EndedBy.CONTAINER, _INTERNAL_ERROR, "container connection lost", broke)
            message = await self._next_message()
        return _End(EndedBy.CLIENT, int(message.get("code") or _NORMAL), str(message.get("reason") or ""))

    async def _container_to_client(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> _End:
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                self._bytes_out += _size(message.data)
                await self._send({"type": "websocket.send", "text": message.data})
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._bytes_out += len(message.data)
                await self._send({"type": "websocket.send", "bytes": bytes(message.data)})
            elif message.type is aiohttp.WSMsgType.CLOSE:
                return _End(EndedBy.CONTAINER, message.data or _NORMAL, message.extra or "")
            else:
                return _broken_end(message.data)

    async def _next_message(self) -> Message:
        try:
            return await self._receive()
        except OSError as error:
            return {"type": "websocket.disconnect", "code": _ABNORMAL, "reason": str(error)}

    async def _pass_refusal(self, refused: _Refused) -> _End:
        """The container's own answer to the handshake, unless it is about the gateway's credential."""
        self._first_byte_ns = monotonic_ns() - self._begun_ns
        self._status = refused.status
        if refuses_credential(refused.status, refused.headers):
            error = ContainerRefusedUs("The container does not take the gateway's credential.")
            return _End(EndedBy.GATEWAY, _INTERNAL_ERROR, error=error)
        if "websocket.http.response" not in (self._scope.get("extensions") or {}):
            return _End(EndedBy.CONTAINER, _NORMAL)
        headers = [pair for pair in to_client(refused.status, refused.headers) if pair[0] != b"content-length"]
        headers.append((b"content-length", b"%d" % len(refused.body)))
        headers.extend(self._forward.added)
        self._started = True
        await self._send({"type": "websocket.http.response.start", "status": refused.status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": refused.body, "more_body": False})
        self._bytes_out = len(refused.body)
        return _End(EndedBy.CONTAINER, _NORMAL)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def offered_subprotocols(offered: Sequence[str]) -> tuple[str, ...]:
    """What the container may choose from: the client's offer without what is meant for the gateway."""
    token = TOKEN_SUBPROTOCOL.decode()
    return tuple(name for name in offered if not name.startswith(token) and name != GATEWAY_SUBPROTOCOL)


def close_code_for_container(code: int) -> int:
    """A code that may stand in a close frame (RFC 6455 section 7.4) for the one that the server reported.

    A close without a code (1005) was in order; a lost connection (1006, 1015) has gone away.
    """
    return {1005: _NORMAL, _ABNORMAL: _GOING_AWAY, 1015: _GOING_AWAY}.get(code, code)


async def _close(socket: aiohttp.ClientWebSocketResponse[bool], end: _End) -> None:
    """Tell the container how its client ended; bounded by _CLOSE_SECONDS, then the connection is dropped."""
    if not socket.closed:
        await socket.close(code=close_code_for_container(end.code), message=end.reason.encode()[:123])


def _broken_end(cause: object) -> _End:
    """The container's connection ended without a close frame, or with a frame that RFC 6455 forbids."""
    if isinstance(cause, aiohttp.WebSocketError):
        error: ProxyError = ContainerProtocolError("The container sent a websocket frame that is not allowed.")
        error.__cause__ = cause
        return _End(EndedBy.CONTAINER, cause.code, "container broke the protocol", error)
    broke = ContainerBroke("The container's websocket ended without a close frame.")
    broke.__cause__ = cause if isinstance(cause, BaseException) else None
    return _End(EndedBy.CONTAINER, _INTERNAL_ERROR, "container connection lost", broke)


def _handshake_headers(headers: Sequence[Header]) -> CIMultiDict[str]:
    """For aiohttp, which makes the ``sec-websocket-*`` fields itself and writes UTF-8: other bytes cannot be kept."""
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers:
        if not name.startswith(b"sec-websocket-"):
            kept.add(name.decode("ascii"), value.decode("utf-8", "replace"))
    return kept


async def _stop_at_refusal(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Before aiohttp looks at a redirect: anything but 101 ends the handshake, with what the container said."""
    response = await handler(request)
    if response.status == 101:
        return response
    try:
        body = await response.content.read(_REFUSAL_BYTES)
        headers = [(name.lower(), value) for name, value in response.raw_headers]
        raise _Refused(response.status, headers, body)
    finally:
        response.close()
