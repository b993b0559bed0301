"""The drain: finish what is open, take nothing new, and end streams and websockets with a word that they can use.

An ASGI wrapper that keeps the set of calls under way. Which of them are streams it sees by their answers, so no route
needs to know. A call is ended by cancelling its task: no second task for each request, the same under any server.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal["http", "stream", "websocket"]

ALIVE_PATH: Final = "/livez"  # stays 200: whoever is alive and draining must not be killed for it
RETRY: Final = b"retry: 1000\n\n"  # WHATWG HTML, 9.2: milliseconds until an EventSource connects again
SERVICE_RESTART: Final = 1012  # websocket close code of the IANA registry
END_SECONDS: Final = 1.0  # for saying one call's end; a client that does not read is not waited for
QUIET_SECONDS: Final = 0.5  # of silence, after which a closed websocket's client is no more read from
CUT_SECONDS: Final = 3.0  # for all calls to end once they were cut

log = logging.getLogger("session_gateway.drain")


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the calls: cut by us, by kind; ``left`` did not end although they were cut."""

    cut: dict[Kind, int]
    left: int


class Drain:
    """Wraps the application. ``refuse`` answers, as an ASGI application, what is not served any more (a 503)."""

    def __init__(self, app: ASGIApp, *, refuse: ASGIApp) -> None:
        self._app = app
        self._refuse = refuse
        self._calls: set[_Call] = set()
        self._tails: set[asyncio.Task[None]] = set()
        self._changed: asyncio.Event | None = None
        self._hurried = False
        self.draining = False

    def open(self) -> dict[Kind, int]:
        """Calls under way, by kind."""
        return dict(Counter(call.kind for call in self._calls))

    def begin(self) -> None:
        """Take nothing new from now on."""
        self.draining = True

    def hurry(self) -> None:
        """End the waiting of ``finish``."""
        self._hurried = True
        self._tell()

    def cut(self) -> None:
        """End all that is under way, each call in its own way; what comes later is served."""
        for call in self._calls:
            call.cut = True
            call.task.cancel()

    async def finish(self, seconds: float) -> Drained:
        """Drain: wait up to ``seconds`` for requests, then end all that is left, streams and websockets too."""
        self.begin()
        log.info("draining", extra={"operation": "drain", "calls": self.open()})
        await self._until(lambda: self._hurried or not any(call.kind == "http" for call in self._calls), seconds)
        cut = self.open()
        self.cut()
        await self._until(lambda: not self._calls, CUT_SECONDS)
        if self._calls:
            log.error("%d calls did not end although they were told to", len(self._calls), extra={"operation": "drain"})
        log.info("drained", extra={"operation": "drain", "cut": cut})
        return Drained(cut=cut, left=len(self._calls))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif self.draining:
            app = self._app if scope["path"] == ALIVE_PATH else self._refuse
            await app(scope, receive, _Call(self, scope, receive, send).send)
        else:
            await self._serve(_Call(self, scope, receive, send))

    async def _serve(self, call: "_Call") -> None:
        self._calls.add(call)
        try:
            await self._run(call)
        finally:
            self._calls.discard(call)
            self._tell()
            if call.kind == "websocket":
                self._read_on(call.receive)

    async def _run(self, call: "_Call") -> None:
        try:
            await self._app(call.scope, call.receive, call.send)
            await call.until_client_closed()
        except asyncio.CancelledError:
            if not call.cut:
                raise
        except Exception:
            if not call.cut:
                raise
            log.warning("a call failed on being ended", exc_info=True, extra={"operation": "drain"})
        if call.cut:
            call.task.uncancel()
            await self._end(call)

    async def _end(self, call: "_Call") -> None:
        try:
            async with asyncio.timeout(2 * END_SECONDS):  # a websocket waits for its client within that
                await call.end(self._refuse)
        except (TimeoutError, OSError) as error:
            log.info("a client did not take its end: %s", type(error).__name__, extra={"operation": "drain"})

    def _read_on(self, receive: Receive) -> None:
        """Take what a websocket's client still sends: hypercorn's reader waits for it, with two tasks, for ever."""
        reading = asyncio.create_task(_until_quiet(receive), name="read-on")
        self._tails.add(reading)
        reading.add_done_callback(self._tails.discard)

    async def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        """Wait until it is ``reached``, for at most ``seconds``. Looked at whenever a call changes."""
        try:
            async with asyncio.timeout(seconds):
                while not reached():
                    self._changed = asyncio.Event()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()


class _Call:
    """One request, stream or websocket."""

    __slots__ = (
        "_accepted",
        "_drain",
        "_left",
        "_plain",
        "_receive",
        "_send",
        "_tail",
        "cut",
        "done",
        "kind",
        "scope",
        "started",
        "task",
    )

    def __init__(self, drain: Drain, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None, "ASGI applications are called in a task"
        self.task: asyncio.Task[Any] = task
        self.scope = scope
        self.kind: Kind = "http" if scope["type"] == "http" else "websocket"
        self.started = self.done = self.cut = self._accepted = self._left = False
        self._drain, self._receive, self._send = drain, receive, send
        self._tail = b"\n\n"  # the last two bytes of a stream; at its beginning we are between two events
        self._plain = True

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            message = self._start(message)
        elif kind == "http.response.body":
            self._pass(message)
        elif kind == "websocket.accept":
            self.started = self._accepted = True
        elif kind in ("websocket.close", "websocket.http.response.body"):
            self.done = not message.get("more_body", False)
        await self._send(message)

    async def until_client_closed(self) -> None:
        """After our close frame wait for the client's, for at most END_SECONDS.

        A server that closes with unread bytes resets the connection, and the client would never see our code.
        """
        try:
            async with asyncio.timeout(END_SECONDS):
                while self._accepted and self.done and not self._left:
                    await self.receive()
        except TimeoutError:
            return

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._left = True
        return message

    async def end(self, refuse: ASGIApp) -> None:
        """Say the end in the call's own way. A started answer that is no stream is left without its end: it is cut."""
        if self.done:
            return
        if not self.started:
            await refuse(self.scope, self._nothing_more, self.send)
        elif self._accepted:
            await self.send({"type": "websocket.close", "code": SERVICE_RESTART})
            await self.until_client_closed()
        elif self.kind == "stream":
            # Glued to half an event, the line would be taken for a part of it.
            last = RETRY if self._plain and self._tail == b"\n\n" else b""
            await self.send({"type": "http.response.body", "body": last, "more_body": False})

    def _start(self, message: Message) -> Message:
        self.started = True
        headers = list(message.get("headers", ()))
        told = {name.lower(): value for name, value in headers}
        if message["type"] == "http.response.start" and told.get(b"content-type", b"").lower().startswith(
            b"text/event-stream"
        ):
            self.kind = "stream"
            self._plain = not {b"content-encoding", b"content-length"} & told.keys()
            self._drain._tell()
        if self._drain.draining and self.scope["http_version"] in ("1.0", "1.1"):
            headers = [(name, value) for name, value in headers if name.lower() != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        return message

    def _pass(self, message: Message) -> None:
        self.done = not message.get("more_body", False)
        if self.kind == "stream":
            self._tail = (self._tail + message.get("body", b"")[-2:])[-2:]

    async def _nothing_more(self) -> Message:
        if self.scope["type"] == "websocket":
            return {"type": "websocket.connect"}
        return {"type": "http.request", "body": b"", "more_body": False}


async def _until_quiet(receive: Receive) -> None:
    """Not even a disconnect is the end: the reader may stand in the middle of a packet with many messages."""
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await receive()
        except TimeoutError:
            return
