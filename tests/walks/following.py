"""Followers of the log as auditors have them: each a connection of its own to ``GET /events/stream``, read as bytes.

Whatever a follower is sent is held against what all others were sent at the same position.
"""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httptools
import msgspec

from events.envelope import RecordedEvent
from events.filter import EventFilter
from tests.walks.process import reached

SECONDS: Final = 60.0  # for anything at all, on a shared machine
PIECE: Final = 1 << 16
PURPOSE: Final = "a walk"
ALL: Final = EventFilter()


class _Sent(msgspec.Struct):
    event_id: str
    position: int


class Seen:
    """What was sent at each position, by whichever gateway to whomever it was first."""

    def __init__(self) -> None:
        self.frames: dict[int, bytes] = {}

    def same(self, position: int, frame: bytes) -> bool:
        return self.frames.setdefault(position, frame) == frame

    def told(self, log: Sequence[RecordedEvent]) -> bool:
        """Whether every frame tells of the event that the log holds there."""
        return all(
            _decoded(self.frames[event.position]) == _Sent(str(event.event_id), event.position)
            for event in log
            if event.position in self.frames
        )


def _decoded(frame: bytes) -> _Sent:
    return msgspec.json.decode(frame.partition(b"\ndata: ")[2], type=_Sent)


class Follower:
    """One reader. ``urls``: where it goes, by turns; ``cut_after``: events after which its connection is cut, again
    and again, in the midst of what is on its way.

    ``start`` is where it began, as it was told; ``positions`` and ``times`` (of the clock on the wall) are what it got.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        seen: Seen,
        *,
        wanted: EventFilter = ALL,
        after: int | None = None,
        cut_after: int | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        self.wanted = wanted
        self.start = -1
        self.positions: list[int] = []
        self.times: list[float] = []
        self.connected = 0
        self.overruns = 0
        self._urls = urls
        self._key = key
        self._seen = seen
        self._after = after
        self._last: int | None = None
        self._cut_after = cut_after
        self._receive_buffer = receive_buffer
        self._body = bytearray()
        self._dice = random.Random(cut_after)

    @property
    def reached(self) -> int:
        return self.positions[-1] if self.positions else self.start

    async def follow(self) -> None:
        """Go on for ever: whoever is cut, or cut off, comes back with its last id."""
        while True:
            async with self.connection() as connected:
                await self.read(connected)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[socket.socket]:
        """A new one, on which was asked."""
        address = urlsplit(self._urls[self.connected % len(self._urls)])
        self.connected += 1
        self._body.clear()
        with socket.socket() as connected:
            if self._receive_buffer is not None:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            connected.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connected, (address.hostname, address.port))
            await loop.sock_sendall(connected, self._request(address.netloc))
            yield connected

    def _request(self, host: str) -> bytes:
        asked = [("type", each) for each in self.wanted.types]
        asked += [("session", self.wanted.session_id)] if self.wanted.session_id else []
        asked += [("after", str(self._after))] if self._after is not None else []
        headers = {"host": host, "authorization": f"Bearer {self._key}", "x-audit-purpose": PURPOSE}
        headers |= {"last-event-id": str(self._last)} if self._last is not None else {}
        lines = [
            f"GET /events/stream?{urlencode(asked)} HTTP/1.1",
            *(f"{name}: {is_}" for name, is_ in headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def read(self, connected: socket.socket) -> None:
        """Take what comes until the stream ends, or it is time to be cut."""
        loop, parser, before = asyncio.get_running_loop(), httptools.HttpResponseParser(self), len(self.positions)
        while self._cut_after is None or len(self.positions) - before < self._cut_after:
            most = PIECE if self._cut_after is None else self._dice.randrange(1, 8192)
            piece = await loop.sock_recv(connected, most)
            if not piece:
                return
            parser.feed_data(piece)
            assert not self._body or parser.get_status_code() == 200, bytes(self._body)
            self._take()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def _take(self) -> None:
        """What is whole by now; the rest waits, or is lost with its connection."""
        whole, end, rest = bytes(self._body).rpartition(b"\n\n")
        if not end:
            return
        self._body = bytearray(rest)
        now = time.time()
        for frame in whole.split(b"\n\n"):
            if frame.startswith(b"event: overrun\n"):
                self.overruns += 1
                continue
            assert frame.startswith(b"id: "), frame
            identity, _, told = frame[4:].partition(b"\n")
            self._last = int(identity)
            if told:
                assert self._seen.same(self._last, frame), frame
                self.positions.append(self._last)
                self.times.append(now)
            elif self.start < 0:
                self.start = self._last

    def asked_for(self, log: Sequence[RecordedEvent]) -> list[int]:
        """The positions of all in ``log`` that this follower should have got."""
        return [event.position for event in log if event.position > self.start and self.wanted.matches(event)]


def delays(followers: Sequence[Follower], written: Mapping[int, float]) -> list[float]:
    """Seconds from when the log took an event to when a follower had it, of each in ``written``, sorted."""
    return sorted(
        at - written[position]
        for each in followers
        for position, at in zip(each.positions, each.times, strict=True)
        if position in written
    )


@contextlib.asynccontextmanager
async def following(followers: Sequence[Follower]) -> AsyncIterator[None]:
    """All of them, connected and told where they begin; they go on meanwhile, and one that fails ends it."""
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[Any]] = [group.create_task(each.follow()) for each in followers]
        await reached(lambda: all(each.start >= 0 for each in followers), SECONDS)
        yield
        for task in tasks:
            task.cancel()
