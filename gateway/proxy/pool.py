"""Connections to containers, shared by all exchanges of this process and kept alive per container.

Two budgets: request/response exchanges take from ``proxy_max_connections`` (first come, first served), streams (SSE)
from ``proxy_max_streams``, so open event streams never starve requests. An idle connection found dead before the
container answered is replaced once, for safe requests without a body only.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final

import msgspec

from docker.service import Address
from gateway.proxy.dialling import Dials
from gateway.proxy.errors import ClientLeft, ContainerBroke, ContainerUnreachable, GatewayBusy
from gateway.proxy.headers import Header
from gateway.proxy.settings import ProxySettings
from gateway.proxy.upstream import Connection, ResponseParser, request_head

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The pool's figures for ``/health``."""

    busy: int  # connections in an exchange that is not a stream
    idle: int
    streams: int
    waiting: int  # exchanges that wait for a free connection
    opened: int  # since the start, as the next two
    reused: int
    retried: int
    max_connections: int
    max_keepalive_connections: int
    max_streams: int


class Response:
    """A container's answer: status, headers in order with duplicates (names in lower case), and its body."""

    __slots__ = ("_connection", "_parser")

    def __init__(self, connection: Connection, parser: ResponseParser) -> None:
        self._connection = connection
        self._parser = parser

    @property
    def status(self) -> int:
        return self._parser.status

    @property
    def headers(self) -> list[Header]:
        return self._parser.headers

    @property
    def is_stream(self) -> bool:
        return self._parser.is_stream

    @property
    def complete(self) -> bool:
        """True when nothing is left to read: known at once, so the last bytes can be passed on as the last."""
        return self._parser.complete and not self._parser.body

    async def read(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end. Raises ContainerBroke when the body is cut."""
        return await self._connection.read()

    @property
    def body(self) -> AsyncIterator[bytes]:
        """The body as it arrives, nothing held back. To be read once."""
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while data := await self._connection.read():
            yield data


class UpstreamPool:
    """All connections to containers of this process. Made inside the event loop; ``aclose`` ends every one."""

    def __init__(self, settings: ProxySettings) -> None:
        self.settings = settings
        self.dials = Dials(seconds=settings.proxy_connect_timeout)
        self._idle: dict[Address, list[Connection]] = {}
        self._idle_count = 0
        self._in_use: dict[Connection, Address] = {}
        self._slots = asyncio.Semaphore(settings.proxy_max_connections)
        self._busy = self._streams = self._waiting = 0
        self._opened = self._reused = self._retried = 0

    def exchange(
        self,
        address: Address,
        method: str,
        raw_target: bytes,
        headers: Sequence[Header],
        *,
        body: AsyncIterator[bytes] | None = None,
        read_timeout: float | None = None,
    ) -> "Exchange":
        """One request and its response, as ``async with ... as response``.

        ``headers`` go out as given; a ``body`` without ``content-length`` among them is sent in chunks.
        ``read_timeout`` replaces ``proxy_read_timeout``. Raises ProxyError, or what ``body`` raises. Leaving the block
        early, or being cancelled, closes the connection at once.
        """
        head = request_head(method, raw_target, headers, chunked=body is not None and _content_length(headers) is None)
        timeout = self.settings.proxy_read_timeout if read_timeout is None else read_timeout
        return Exchange(
            self, address, method, head=head, body=body, length=_content_length(headers), read_timeout=timeout
        )

    def status(self) -> PoolStatus:
        """The figures now."""
        return PoolStatus(
            busy=self._busy,
            idle=self._idle_count,
            streams=self._streams,
            waiting=self._waiting,
            opened=self._opened,
            reused=self._reused,
            retried=self._retried,
            max_connections=self.settings.proxy_max_connections,
            max_keepalive_connections=self.settings.proxy_max_keepalive_connections,
            max_streams=self.settings.proxy_max_streams,
        )

    def close_address(self, address: Address) -> int:
        """A container is gone: drop its idle connections, end its exchanges and dials. Answers how many.

        Exchanges end with ContainerBroke, dials with ContainerUnreachable.
        """
        idle = list(self._idle.get(address, ()))
        for connection in idle:
            self._drop_idle(address, connection)
        used = [connection for connection, of in self._in_use.items() if of == address]
        for connection in used:
            connection.fail(ContainerBroke("The container ended during the exchange."))
        return len(idle) + len(used) + self.dials.close_address(address)

    async def aclose(self) -> None:
        """Close every connection; exchanges that still run end as in ``close_address``."""
        for address in {*self._idle, *self._in_use.values(), *self.dials.addresses}:
            self.close_address(address)
        await asyncio.sleep(0)  # one turn of the loop, in which the transports close their sockets

    # For Exchange alone.

    async def take(self, address: Address, *, fresh: bool) -> tuple[Connection, bool]:
        """A connection and whether it was used before. Raises GatewayBusy, ContainerUnreachable."""
        try:
            connection, reused = await self.dials.dial(address, lambda: self._take_slot(address, fresh=fresh))
        except ConnectionRefusedError as error:
            raise ContainerUnreachable("The container refuses connections.") from error
        self._in_use[connection] = address
        self._reused += reused
        return connection, reused

    def give_back(self, connection: Connection, *, was_stream: bool) -> None:
        """After an exchange: keep the connection when it is clean and there is room, else close it."""
        address = self._in_use.pop(connection)
        if was_stream:
            self._streams -= 1
        else:
            self._busy -= 1
            self._slots.release()
        limit = self.settings.proxy_max_keepalive_connections
        if not connection.finish() or self._idle_count >= limit:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.expiry = loop.call_later(self.settings.proxy_keepalive_expiry, self._drop_idle, address, connection)
        self._idle.setdefault(address, []).append(connection)
        self._idle_count += 1
        connection.on_idle_end = lambda: self._drop_idle(address, connection)

    def becomes_stream(self) -> None:
        """Move an exchange from one budget to the other. Raises GatewayBusy and moves nothing when streams are full."""
        if self._streams >= self.settings.proxy_max_streams:
            raise GatewayBusy("The gateway has as many open streams as PROXY_MAX_STREAMS allows.")
        self._streams += 1
        self._busy -= 1
        self._slots.release()

    def count_retry(self) -> None:
        self._retried += 1

    async def _take_slot(self, address: Address, *, fresh: bool) -> tuple[Connection, bool]:
        """One try, which keeps its slot only when it has a connection. Raises as ``take``, and ConnectionRefusedError.

        A request that waits for a refusing address therefore takes nothing from those of other containers.
        """
        await self._wait_for_slot()
        self._busy += 1
        try:
            connection = None if fresh else self._take_idle(address)
            if connection is not None:
                return connection, True
            self._make_room()
            return await self._connect(address), False
        except BaseException:
            self._busy -= 1
            self._slots.release()
            raise

    async def _wait_for_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # does not wait
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(self.settings.proxy_connect_timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            raise GatewayBusy("Every connection that PROXY_MAX_CONNECTIONS allows is in use.") from error
        finally:
            self._waiting -= 1

    def _take_idle(self, address: Address) -> Connection | None:
        """The one used last: the others grow old and expire."""
        for connection in reversed(self._idle.get(address, ())):
            if connection.usable:
                self._forget_idle(address, connection)
                return connection
        return None

    def _make_room(self) -> None:
        """Idle connections count in the limit: close the one that was idle longest."""
        if self._busy + self._idle_count > self.settings.proxy_max_connections:
            oldest = {connections[0]: address for address, connections in self._idle.items()}
            connection = min(oldest, key=lambda candidate: candidate.expiry.when() if candidate.expiry else 0.0)
            self._drop_idle(oldest[connection], connection)

    async def _connect(self, address: Address) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.settings.proxy_connect_timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(self.settings, loop), address.host, address.port
                )
        except TimeoutError as error:
            raise ContainerUnreachable("The container did not accept a connection in time.") from error
        except ConnectionRefusedError:
            raise
        except OSError as error:
            raise ContainerUnreachable("The container cannot be connected to.") from error
        self.dials.accepted(address)
        self._opened += 1
        return connection

    def _forget_idle(self, address: Address, connection: Connection) -> None:
        connections = self._idle[address]
        connections.remove(connection)
        if not connections:
            del self._idle[address]
        self._idle_count -= 1
        connection.on_idle_end = None
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None

    def _drop_idle(self, address: Address, connection: Connection) -> None:
        self._forget_idle(address, connection)
        connection.abort()


class Exchange:
    """One request and its response; see ``UpstreamPool.exchange``."""

    __slots__ = (
        "_address",
        "_body",
        "_connection",
        "_head",
        "_is_stream",
        "_length",
        "_method",
        "_pool",
        "_pump",
        "_read_timeout",
    )

    def __init__(
        self,
        pool: UpstreamPool,
        address: Address,
        method: str,
        *,
        head: bytes,
        body: AsyncIterator[bytes] | None,
        length: int | None,
        read_timeout: float,
    ) -> None:
        self._pool, self._address, self._method = pool, address, method
        self._head, self._body, self._length, self._read_timeout = head, body, length, read_timeout
        self._connection: Connection | None = None
        self._pump: asyncio.Task[None] | None = None
        self._is_stream = False

    async def __aenter__(self) -> Response:
        try:
            return await self._start(fresh=False)
        except BaseException:
            await self._end()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _start(self, *, fresh: bool) -> Response:
        connection, reused = await self._pool.take(self._address, fresh=fresh)
        self._connection = connection
        connection.begin(self._method, self._head, has_body=self._body is not None, read_timeout=self._read_timeout)
        if self._body is not None:
            self._pump = asyncio.create_task(self._send_body(connection, self._body))
        try:
            parser = await connection.head()
        except ContainerBroke:
            if not reused or connection.answered or self._body is not None or self._method not in _SAFE_METHODS:
                raise
            self._pool.count_retry()
            await self._end()
            return await self._start(fresh=True)
        if parser.is_stream:
            self._pool.becomes_stream()
            self._is_stream = True
        return Response(connection, parser)

    async def _send_body(self, connection: Connection, body: AsyncIterator[bytes]) -> None:
        """Pump the body; what ends it early ends the exchange, and is raised to its reader."""
        sent = 0
        try:
            async for data in body:
                sent += len(data)
                await connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self._length is None else data)
            if self._length is None:
                await connection.send(b"0\r\n\r\n")
            elif sent != self._length:
                raise ClientLeft("The client's body is not as long as it announced.")
            connection.end_request()
        except Exception as error:
            connection.fail(error)

    async def _end(self) -> None:
        connection, self._connection = self._connection, None
        pump, self._pump = self._pump, None
        if connection is not None:
            self._pool.give_back(connection, was_stream=self._is_stream)
        if pump is not None and not pump.done():
            pump.cancel()
            await asyncio.wait([pump])


def _content_length(headers: Sequence[Header]) -> int | None:
    return next((int(value) for name, value in headers if name == b"content-length"), None)
