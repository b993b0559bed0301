"""Relay of one HTTP exchange, raw ASGI on one side and the pool on the other, backpressure and cancellation both ways.

Server-sent events take the same path: nothing is ever held back. Authentication, routing and events are the caller's.
"""

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from docker.service import Address
from gateway.proxy.client import Client, drain_in_background, end_early
from gateway.proxy.errors import ClientLeft, ContainerRefusedUs, ExchangeCut, ProxyError
from gateway.proxy.headers import Header, refuses_credential, to_client
from gateway.proxy.pool import Response, UpstreamPool
from gateway.proxy.result import ExchangeResult, Opened, blame

OnOpen = Callable[[Opened], None]
OnEnd = Callable[[ExchangeResult], None]


class Forward(msgspec.Struct, frozen=True, kw_only=True):
    """Where an exchange goes and what it carries; ``target`` and ``headers`` make the parts."""

    address: Address
    raw_target: bytes
    headers: list[Header]  # for the container, whole
    added: tuple[Header, ...] = ()  # to the answer: request id, traceparent
    path_mode: bool = True
    read_timeout: float | None = None  # None: proxy_read_timeout


async def relay(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    pool: UpstreamPool,
    forward: Forward,
    on_open: OnOpen | None = None,
    on_end: OnEnd | None = None,
) -> ExchangeResult:
    """Carry one exchange and say how it ended. Failures are answered as ``result.error``, never raised.

    While ``result.started`` is False nothing was sent to the client and the caller answers (``client.answer``); else
    the answer was cut without its end, so that no reader takes it for whole. ``on_open`` is called when the container's
    head is there, ``on_end`` exactly once, also when this task is cancelled. A client that leaves closes the
    container's connection within WATCH_AFTER_SECONDS and a round trip.
    """
    exchange = _Exchange(scope, receive, send, pool=pool, forward=forward, on_open=on_open)
    error: ProxyError | None = ExchangeCut("The gateway ended the exchange.")
    try:
        error = await exchange.run()
    finally:
        result = exchange.ended(error, on_end)
    return result


class _Exchange:
    """The state of one relay."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        pool: UpstreamPool,
        forward: Forward,
        on_open: OnOpen | None,
    ) -> None:
        self._scope, self._receive, self._asgi_send = scope, receive, send
        self._pool, self._forward, self._on_open = pool, forward, on_open
        self._client = Client(receive, max_body_bytes=pool.settings.proxy_max_body_bytes, on_leave=self._let_go)
        self._leash: asyncio.Timeout | None = None
        self._begun_ns = monotonic_ns()
        self._first_byte_ns: int | None = None
        self._status: int | None = None
        self._started = self._is_stream = False
        self._bytes_out = 0

    async def run(self) -> ProxyError | None:
        """The whole exchange; answers what ended it, None when it is complete."""
        try:
            async with asyncio.timeout(None) as self._leash:
                await self._carry()
            return None
        except ProxyError as error:
            return error
        except TimeoutError:
            if not self._client.left:
                raise
            return ClientLeft("The client left before its answer was whole.")
        finally:
            self._leash = None
            self._client.stop()
            if self._started and self._client.unread:
                drain_in_background(self._receive)

    def ended(self, error: ProxyError | None, on_end: OnEnd | None) -> ExchangeResult:
        """Make the result and hand it on."""
        result = ExchangeResult(
            status=self._status,
            started=self._started,
            is_stream=self._is_stream,
            unread=self._client.unread,
            bytes_in=self._client.bytes_in,
            bytes_out=self._bytes_out,
            first_byte_ns=self._first_byte_ns,
            duration_ns=monotonic_ns() - self._begun_ns,
            ended_by=blame(error),
            reason="complete" if error is None else str(error),
            error=error,
        )
        if on_end is not None:
            on_end(result)
        return result

    async def _carry(self) -> None:
        forward, client = self._forward, self._client
        has_body = await client.has_body(self._scope)
        if not has_body:
            client.watch()
        async with self._pool.exchange(
            forward.address,
            self._scope["method"],
            forward.raw_target,
            forward.headers,
            body=client if has_body else None,
            read_timeout=forward.read_timeout,
        ) as response:
            await self._pass_head(response)
            while True:
                data = await response.read()
                if response.complete:
                    break
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
                self._bytes_out += len(data)
        # The container's connection is free again: a slow client does not hold it for the last bytes.
        if client.unread:
            await end_early(self._receive, self._send, data)
            client.unread = False
        else:
            await self._send({"type": "http.response.body", "body": data, "more_body": False})
        self._bytes_out += len(data)

    async def _pass_head(self, response: Response) -> None:
        self._first_byte_ns = monotonic_ns() - self._begun_ns
        self._status, self._is_stream = response.status, response.is_stream
        if refuses_credential(response.status, response.headers):
            raise ContainerRefusedUs("The container does not take the gateway's credential.")
        headers = to_client(response.status, response.headers, path_mode=self._forward.path_mode)
        headers.extend(self._forward.added)
        if self._on_open is not None:
            self._on_open(Opened(response.status, response.is_stream, self._first_byte_ns))
        self._started = True
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})

    async def _send(self, message: Any) -> None:
        try:
            await self._asgi_send(message)
        except OSError as error:  # a server may say so instead of http.disconnect (ASGI 2.4)
            raise ClientLeft("The client left before its answer was whole.") from error

    def _let_go(self) -> None:
        """End whatever the exchange waits for: the client is gone."""
        if self._leash is not None:
            self._leash.reschedule(asyncio.get_running_loop().time())
