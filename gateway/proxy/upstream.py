"""One HTTP/1.1 connection to a container: an asyncio.Protocol on httptools (llhttp). Bytes in, bytes out.

It carries one exchange at a time and judges each response by itself: where the body ends must be said in exactly one
way, or the response is refused. ``pool`` decides which connection carries which exchange; nothing else opens one.
The only importer of httptools.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

import httptools

from gateway.proxy.errors import ContainerBroke, ContainerProtocolError, ContainerTimedOut
from gateway.proxy.headers import Header, is_event_stream
from gateway.proxy.settings import ProxySettings

MAX_INTERIM_RESPONSES: Final = 16
"""1xx heads skipped before one response; a container that sends more is flooding."""
_READ_AHEAD_BYTES: Final = 64 * 1024  # of body, before reading from the container is paused


def request_head(method: str, raw_target: bytes, headers: Sequence[Header], *, chunked: bool) -> bytes:
    """The head as sent: every name and value exactly as given. Raises ValueError when one would break out of a line."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode("ascii"), raw_target)]
    lines += [b"%b: %b\r\n" % header for header in headers]
    if chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    lines.append(b"\r\n")
    head = b"".join(lines)
    if not head.count(b"\n") == head.count(b"\r") == len(lines) or b"\0" in head or raw_target.count(b" "):
        raise ValueError("a request target or header holds a byte that would break the request's head")
    return head


class ResponseParser:
    """One response, read strictly: also the object that httptools calls back.

    ``feed`` raises ContainerProtocolError for anything that is not one unambiguous response. Bytes after its end set
    ``surplus``: the answer stands, the connection must not be used again.
    """

    __slots__ = (
        "_fields",
        "_interim",
        "_parser",
        "_quiet_bytes",
        "_settings",
        "_size",
        "body",
        "complete",
        "head_done",
        "headers",
        "is_head",
        "is_stream",
        "keep_alive",
        "status",
        "surplus",
        "until_close",
    )

    def __init__(self, method: str, settings: ProxySettings) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._settings = settings
        self._fields: list[Header] = []
        self._size = 0
        self._interim = 0
        self._quiet_bytes = 0
        self.is_head = method == "HEAD"
        self.status = 0
        self.headers: list[Header] = []
        self.body: list[bytes] = []
        self.head_done = self.complete = self.surplus = self.keep_alive = self.until_close = self.is_stream = False

    def feed(self, data: bytes) -> None:
        """Read what arrived."""
        if self._is_over():
            self.surplus = True
            return
        self._quiet_bytes += len(data)
        try:
            if self.is_head:
                self._feed_lines(data)
            else:
                cast(httptools.HttpResponseParser, self._parser).feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._is_over():
                cause = error.__context__
                raise cause if isinstance(cause, ContainerProtocolError) else _broken(str(error)) from error
            self.surplus = True
        if not self._is_over() and self._quiet_bytes > self._settings.proxy_max_response_header_bytes:
            raise _broken("a response head, chunk line or trailer without end")

    def end(self) -> bool:
        """The container closed its side in order: True when that ends the response (RFC 9112 section 6.3, rule 8)."""
        self.complete = self.complete or (self.head_done and self.until_close)
        return self.complete

    def release(self) -> None:
        """Let go of httptools' object, which refers back to this one."""
        self._parser = None

    def _is_over(self) -> bool:
        return self.complete or self._parser is None

    def _feed_lines(self, data: bytes) -> None:
        """HEAD: httptools cannot be told that no body follows, so it is never given a byte after the head."""
        start = 0
        while start < len(data) and not self.complete:
            end = data.find(b"\n", start) + 1 or len(data)
            cast(httptools.HttpResponseParser, self._parser).feed_data(data[start:end])
            start = end
        self.surplus = self.surplus or start < len(data)

    # Called by httptools; what is raised here comes out of feed_data as the context of its own error.

    def on_message_begin(self) -> None:
        if self.complete:
            raise _broken("a second response")
        self._fields = []
        self._size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        self._fields.append((name.lower(), value))
        if (
            self._size > self._settings.proxy_max_response_header_bytes
            or len(self._fields) > self._settings.proxy_max_response_headers
        ):
            raise _broken("more header lines or bytes than are read from a container")

    def on_headers_complete(self) -> None:
        """Judge the head: skip it (1xx), refuse it, or take it as the answer's."""
        parser = cast(httptools.HttpResponseParser, self._parser)
        status = parser.get_status_code()
        self._quiet_bytes = 0
        if status < 200:
            self._skip_interim(status)
            return
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _broken("a response of another HTTP version")
        self._frame(status, version)
        self.status = status
        self.headers = self._fields
        self.keep_alive = parser.should_keep_alive()
        self.is_stream = is_event_stream(self.headers)
        self.head_done = True
        self.complete = self.is_head
        self._fields, self._size = [], 0  # what follows are trailers: bounded the same way, then dropped

    def on_body(self, data: bytes) -> None:
        if self.complete:
            raise _broken("a body where none belongs")
        self._quiet_bytes = 0
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = self.head_done

    def _skip_interim(self, status: int) -> None:
        self._interim += 1
        if status < 100 or status == 101:
            raise _broken("a switch of protocols that nobody asked for, or no status at all")
        if self._interim > MAX_INTERIM_RESPONSES:
            raise _broken("a flood of interim responses")

    def _frame(self, status: int, version: str) -> None:
        """Where does the body end? RFC 9112 section 6.3, refusing every case in which two readers could differ."""
        lengths = [value for name, value in self._fields if name == b"content-length"]
        codings = [value.lower() for name, value in self._fields if name == b"transfer-encoding"]
        if codings and (lengths or version != "1.1"):
            raise _broken("a response that says in two ways where its body ends")
        if len(lengths) > 1 or (codings and codings != [b"chunked"]):
            raise _broken("a response that does not say clearly where its body ends")
        self.until_close = not (lengths or codings or self.is_head or status in (204, 304))


class Connection(asyncio.Protocol):
    """A connection that carries one exchange after another. Errors are raised to the reader, after the bytes before.

    Backpressure both ways: reading stops while ``_READ_AHEAD_BYTES`` of body wait, ``send`` waits while the container
    takes nothing. ``abort`` is immediate.
    """

    def __init__(self, settings: ProxySettings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._response: ResponseParser | None = None
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._read_timeout: float | None = None
        self._paused = False
        self._write_blocked = False
        self._buffered = 0
        self._sent = False
        self.answered = False  # a byte of this exchange's response has arrived
        self.closed = False
        self.expiry: asyncio.TimerHandle | None = None  # these two are set by the pool while idle
        self.on_idle_end: Callable[[], None] | None = None

    # An exchange: begin, send..., end_request; meanwhile head, then read until b"".

    def begin(self, method: str, head: bytes, *, has_body: bool, read_timeout: float | None) -> None:
        """Write the head of the next request."""
        self._response = ResponseParser(method, self._settings)
        self._error = None
        self._buffered = 0
        self._sent = False
        self.answered = False
        self._read_timeout = read_timeout
        if self.closed:
            self._fail(ContainerBroke("The container closed the connection before the request was sent."))
            return
        cast(asyncio.Transport, self._transport).write(head)
        if not has_body:
            self.end_request()

    async def send(self, data: bytes) -> None:
        """Write a part of the body; waits while the container is slow. Raises what ended the exchange meanwhile."""
        if self._error is not None:
            raise self._error
        if self.closed:
            raise ContainerBroke("The container closed the connection during the request's body.")
        cast(asyncio.Transport, self._transport).write(data)
        if not self._write_blocked:
            return
        self._writer = self._loop.create_future()
        sentence = "The container took no byte of the request for proxy_write_timeout seconds."
        timer = self._loop.call_later(self._settings.proxy_write_timeout, self._fail, ContainerTimedOut(sentence))
        try:
            await self._writer
        finally:
            timer.cancel()
            self._writer = None
        if self._error is not None:
            raise self._error

    def end_request(self) -> None:
        """Say that the last byte of the request is written: from here the container's silence is timed."""
        self._sent = True
        self._arm()

    async def head(self) -> ResponseParser:
        """Wait for the head of the response (1xx skipped). A long upload is not the container's silence."""
        response = cast(ResponseParser, self._response)
        while not response.head_done:
            await self._wait()
        if response.is_stream:
            self._read_timeout = None
        return response

    async def read(self) -> bytes:
        """What arrived of the body, at least one byte; b"" after its end. A cut body raises, never ends."""
        response = cast(ResponseParser, self._response)
        while not response.body:
            if response.complete:
                return b""
            await self._wait()
        data = response.body[0] if len(response.body) == 1 else b"".join(response.body)
        response.body.clear()
        self._buffered = 0
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self._transport.resume_reading()
        return data

    def finish(self) -> bool:
        """End the exchange; True when the connection is provably clean and may carry another one."""
        response, self._response = self._response, None
        self._disarm()
        if response is None:
            return False
        response.release()
        return (
            response.complete
            and response.keep_alive
            and not response.until_close
            and not response.surplus
            and not response.body
            and self._sent
            and self._error is None
            and not self.closed
            and not self._paused
            and not self._write_blocked
        )

    def fail(self, error: Exception) -> None:
        """End the exchange with ``error``, raised to whoever reads or writes, and the connection with it."""
        self._fail(error)

    def abort(self) -> None:
        """Close at once, unsent bytes dropped; the container sees it within a round trip."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """False when an idle connection is known to be dead."""
        return not self.closed and self._transport is not None and not self._transport.is_closing()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # a byte that nobody asked for
            self._end_idle()
            self.abort()
            return
        self.answered = True
        try:
            response.feed(data)
        except ContainerProtocolError as error:
            self._fail(error)
            return
        if response.body:
            self._buffered += len(data)
            if self._buffered > _READ_AHEAD_BYTES and not self._paused and not response.complete:
                self._paused = True
                cast(asyncio.Transport, self._transport).pause_reading()
        if response.head_done:
            self._wake()

    def eof_received(self) -> None:
        if self._response is not None and self._response.end():
            self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._end_idle()
        if self._response is not None and not self._response.complete:
            when = "in mid-answer" if self._response.head_done else "before it answered"
            broke = ContainerBroke(f"The container closed the connection {when}.")
            broke.__cause__ = error
            self._fail(broke)
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self._write_blocked = True

    def resume_writing(self) -> None:
        self._write_blocked = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _end_idle(self) -> None:
        if self.on_idle_end is not None:
            self.on_idle_end()

    # Waiting

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._reader = self._loop.create_future()
        self._arm()
        try:
            await self._reader
        finally:
            self._reader = None
            self._disarm()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _arm(self) -> None:
        """Time the container's silence while somebody waits for it and nothing is left to send."""
        if self._reader is not None and self._sent and self._read_timeout is not None and self._timer is None:
            sentence = "The container sent no byte for proxy_read_timeout seconds."
            self._timer = self._loop.call_later(self._read_timeout, self._fail, ContainerTimedOut(sentence))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self.abort()
        self.resume_writing()
        self._wake()


def _broken(what: str) -> ContainerProtocolError:
    return ContainerProtocolError(f"The container sent what is not one clear HTTP/1.1 response: {what}.")
