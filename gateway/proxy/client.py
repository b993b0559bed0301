"""The client's side of an HTTP exchange, seen through ASGI: its body, the moment it leaves, what it still sends.

Under hypercorn a request whose body nobody reads blocks its connection for good once ten messages wait, so an exchange
that ends before its request goes on reading here, for a bounded time.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from starlette.types import Message, Receive, Scope, Send

from gateway.proxy.errors import BodyTooLarge, ClientLeft
from gateway.proxy.headers import Header

WATCH_AFTER_SECONDS: Final = 0.02
"""A client that leaves earlier is noticed this late; most exchanges end before and never pay for a second task."""
READ_ON_SECONDS: Final = 1.0
"""How long an upload is read on after its answer: a close with unread bytes makes the answer unreadable (RST)."""
_QUIET_SECONDS: Final = 0.5
_TAIL_SECONDS: Final = 10.0

_tails: set[asyncio.Task[None]] = set()


class Client:
    """The body as an async iterator, and a watch that calls ``on_leave`` once when the client is gone.

    Iterating raises ClientLeft and BodyTooLarge. After the body's end (or ``watch``) the client is watched until
    ``stop``.
    """

    __slots__ = ("_first", "_on_leave", "_receive", "_task", "_timer", "bytes_in", "left", "max_body_bytes", "unread")

    def __init__(self, receive: Receive, *, max_body_bytes: int, on_leave: Callable[[], None]) -> None:
        self._receive = receive
        self._on_leave = on_leave
        self._first: Message | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.max_body_bytes = max_body_bytes
        self.bytes_in = 0
        self.left = False
        self.unread = True  # a part of the request may still come

    async def has_body(self, scope: Scope) -> bool:
        """Whether the request has one. HTTP/1.1 says so in its head; HTTP/2 only by its first frame."""
        declared = 0
        framed = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                declared = int(value)
                framed = True
            elif name == b"transfer-encoding":
                return True
        if declared > self.max_body_bytes:
            raise _too_large()
        if not framed and scope["http_version"] == "2":
            self._first = await self._receive()
            self.unread = self._first["type"] != "http.request" or bool(
                self._first.get("more_body") or self._first.get("body")
            )
            return self.unread
        self.unread = declared > 0
        return declared > 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while self.unread:
            message, self._first = self._first or await self._receive(), None
            if message["type"] == "http.disconnect":
                self._leave()
                raise ClientLeft("The client left before its request was whole.")
            data: bytes = message.get("body", b"")
            self.unread = bool(message.get("more_body", False))
            self.bytes_in += len(data)
            if self.bytes_in > self.max_body_bytes:
                raise _too_large()
            if data:
                return data
        self.watch()
        raise StopAsyncIteration

    def watch(self) -> None:
        """Look for the client's leaving, from ``WATCH_AFTER_SECONDS`` on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_SECONDS, self._start_watch)

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start_watch(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self.unread = False
        self.left = True
        self._on_leave()


def has_body(scope: Scope) -> bool:
    """Whether an HTTP/1.1 request says that it has a body; HTTP/2 says so only by its first frame."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in scope["headers"]
    )


async def read_on(receive: Receive, seconds: float = READ_ON_SECONDS) -> bool:
    """Read and drop what the client still sends; True when its request ended, or it left, within ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
    except TimeoutError:
        return False


async def end_early(receive: Receive, send: Send, last: bytes) -> None:
    """End an answer whose request is still coming: send all of it, read the rest of the request, then send the end.

    The server closes the connection at the end, and would lose an answer that the client has not read yet.
    """
    await send({"type": "http.response.body", "body": last, "more_body": True})
    ended = await read_on(receive)
    reading = None if ended else asyncio.create_task(_until_quiet(receive))
    try:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        if reading is not None:
            reading.cancel()


async def answer(
    receive: Receive, send: Send, *, status: int, headers: Sequence[Header], body: bytes, unread: bool
) -> None:
    """Send a whole answer of the gateway's own. ``unread``: a part of the request may still come, see ``end_early``."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    if unread:
        await end_early(receive, send, body)
    else:
        await send({"type": "http.response.body", "body": body, "more_body": False})


def drain_in_background(receive: Receive) -> None:
    """Go on reading after the application ended, until the client is quiet: else hypercorn keeps two tasks for ever."""
    task = asyncio.create_task(_until_quiet(receive))
    _tails.add(task)
    task.add_done_callback(_tails.discard)


async def _until_quiet(receive: Callable[[], Any]) -> None:
    try:
        async with asyncio.timeout(_TAIL_SECONDS):
            while True:
                async with asyncio.timeout(_QUIET_SECONDS):
                    message = await receive()
                if message["type"] in ("http.disconnect", "websocket.disconnect"):
                    return
    except TimeoutError:
        return


def _too_large() -> BodyTooLarge:
    return BodyTooLarge("The request's body is larger than PROXY_MAX_BODY_BYTES.")
