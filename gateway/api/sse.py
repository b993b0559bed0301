"""Server-sent events (WHATWG HTML, 9.2) to a reader that may be slow or gone: a send is bounded in size and in time.

A send that does not end within SEND_SECONDS ends the stream: its reader does not read. What waits for it meanwhile is
one piece; the log holds the rest, and the reader's last id says where it goes on.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from events.errors import StoreClosed, StoreUnavailable
from gateway import context

HEARTBEAT_SECONDS: Final = 15.0
SEND_SECONDS: Final = 10.0
PIECE_BYTES: Final = 64 * 1024  # sent at once; a single event may be larger
OVERRUN: Final = "overrun"
_FAREWELL_SECONDS: Final = 1.0
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}
log = logging.getLogger("session_gateway.api")


def frame(position: int, name: str, data: object) -> bytes:
    """One event on the wire; its id is its position."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (position, name.encode(), msgspec.json.encode(data))


def ephemeral(name: str, data: object) -> bytes:
    """What is true now and stands in no log: without an id, so a reader that is cut off resumes as if it never came."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def place(position: int) -> bytes:
    """An id without data: who is cut off now resumes from here. Also the sign that the connection lives."""
    return b"id: %d\n\n" % position


def pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Frames, in order, as what is sent at once."""
    piece = bytearray()
    for each in frames:
        if piece and len(piece) + len(each) > PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
        piece += each
    if piece:
        yield bytes(piece)


class EventStream(StreamingResponse):
    """Ends when its frames end, or its reader stops reading. ``says_overrun``: and says so, as an event.

    ``ended`` is called at the end, however it came.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        ended: Callable[[], object] = lambda: None,
        says_overrun: bool = False,
    ) -> None:
        super().__init__(frames, headers=_HEADERS, media_type="text/event-stream")
        self._frames = frames
        self._ended = ended
        self._says_overrun = says_overrun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._frames):
            if not await self._started(send):
                return
            async for piece in self._frames:
                if not await _sent(send, piece, more=True, seconds=SEND_SECONDS):
                    return await self._cut(send)
        await _sent(send, b"", more=False, seconds=SEND_SECONDS)

    async def _started(self, send: Send) -> bool:
        """Send the head of the answer, for as long as a piece of it may take."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        except TimeoutError:
            return False
        return True

    async def _cut(self, send: Send) -> None:
        """Without an id of its own: how much of the last piece came through, only the reader knows."""
        request_id = context.request_id()
        log.warning("a reader of events stopped reading and was cut off", extra={"operation": "overrun"})
        told = {"detail": "This stream was not read. Go on behind the last id.", "request_id": request_id}
        last = b"event: %s\ndata: %s\n\n" % (OVERRUN.encode(), msgspec.json.encode(told))
        await _sent(send, last if self._says_overrun else b"", more=False, seconds=_FAREWELL_SECONDS)


async def _sent(send: Send, body: bytes, *, more: bool, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await send({"type": "http.response.body", "body": body, "more_body": more})
    except TimeoutError:
        return False
    return True


async def event_stream(
    request: Request,
    frames: AsyncGenerator[bytes, None],
    begin: Callable[[], Awaitable[object]],
    *,
    ended: Callable[[], object],
    says_overrun: bool = False,
) -> Response:
    """What cannot be read is refused here, before the first byte, and does not ``begin``.

    Whoever asks by HEAD gets no frames: behind them, nothing else would be answered on the connection. So nothing is
    read for them, and nothing begins.
    """
    if request.method == "HEAD":
        await frames.aclose()
        return Response(media_type="text/event-stream", headers=_HEADERS)
    try:
        first = await anext(frames)
        await begin()
    except BaseException:
        await frames.aclose()
        raise
    return EventStream(_while_there(first, frames), ended=ended, says_overrun=says_overrun)


async def _while_there(first: bytes, frames: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """End in order when the log goes away: the reader resumes by its last id."""
    async with aclosing(frames):
        yield first
        try:
            async for each in frames:
                yield each
        except (StoreUnavailable, StoreClosed):
            return
