"""Server-sent events to those who read slowly, or not at all: bounded in size and time, and they are told."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from gateway.api import sse


class Reader:
    """An ASGI server whose client takes ``room`` pieces and then nothing, until it is asked for ``last``."""

    def __init__(self, room: int, *, last: bool = True, head: bool = True) -> None:
        self.room = room
        self.head = head
        self.last = last
        self.got: list[bytes] = []
        self.ended = False
        self.stuck = asyncio.Event()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if not self.head:
                await asyncio.Event().wait()
            return
        full = len(self.got) == self.room if message["more_body"] else not self.last
        if full:
            self.stuck.set()
            await asyncio.Event().wait()
        self.got.append(message["body"])
        self.ended = not message["more_body"]


class Frames:
    """Endless frames, that know whether they were closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = False

    async def run(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                self.made += 1
                yield sse.frame(self.made, "test.event", {"n": self.made})
        finally:
            self.closed = True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(sse, "_FAREWELL_SECONDS", 0.05)


async def test_a_reader_that_stops_reading_is_told_and_ended() -> None:
    """Without an id: the last one it got is the one to resume from. Nothing is made for it any more."""
    reader, frames = Reader(3), Frames()
    async with asyncio.timeout(5):
        await sse.EventStream(frames.run(), says_overrun=True).stream_response(reader.send)
    *told, last = reader.got
    assert told == [sse.frame(n, "test.event", {"n": n}) for n in (1, 2, 3)]
    assert last.startswith(b'event: overrun\ndata: {"detail":') and last.endswith(b"\n\n") and b"id:" not in last
    assert (reader.ended, frames.closed, frames.made) == (True, True, 4)


async def test_a_reader_that_takes_not_even_that_is_left() -> None:
    reader, frames = Reader(1, last=False), Frames()
    async with asyncio.timeout(5):
        await sse.EventStream(frames.run(), says_overrun=True).stream_response(reader.send)
    assert (len(reader.got), reader.ended, frames.closed) == (1, False, True)


async def test_a_reader_that_does_not_take_the_head_is_left() -> None:
    reader, frames = Reader(1, head=False), Frames()
    async with asyncio.timeout(5):
        await sse.EventStream(frames.run(), says_overrun=True).stream_response(reader.send)
    assert (reader.got, reader.ended) == ([], False)


async def test_streams_of_sessions_end_without_an_event_of_their_own() -> None:
    """Their readers know steps, and connect again at an end."""
    reader = Reader(1)
    async with asyncio.timeout(5):
        await sse.EventStream(Frames().run()).stream_response(reader.send)
    assert reader.got[1:] == [b""] and reader.ended


async def test_frames_are_closed_when_their_reader_leaves() -> None:
    reader, frames = Reader(2), Frames()
    sending = asyncio.create_task(sse.EventStream(frames.run()).stream_response(reader.send))
    await reader.stuck.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert frames.closed


@pytest.mark.parametrize("room", [1, 2])
async def test_an_end_is_told_once_however_it_comes(room: int) -> None:
    """Read to the end, or cut off in the middle."""

    async def two() -> AsyncGenerator[bytes, None]:
        yield b"id: 1\n\n"
        yield b"id: 2\n\n"

    async def nothing() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    reader, ends = Reader(room), list[str]()
    response = sse.EventStream(two(), ended=lambda: ends.append("ended"))
    async with asyncio.timeout(5):
        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, nothing, reader.send)
    assert (ends, reader.stuck.is_set()) == (["ended"], room == 1)


def test_a_piece_is_bounded_and_nothing_is_cut() -> None:
    """Many small frames go in one send, and one that is too large goes alone."""
    small, large = b"x" * 1000, b"y" * (sse.PIECE_BYTES + 1)
    frames = [small] * 100 + [large] + [small] * 3
    pieces = list(sse.pieces(frames))
    assert b"".join(pieces) == b"".join(frames)
    assert [len(piece) for piece in pieces if len(piece) > sse.PIECE_BYTES] == [len(large)]
    assert len(pieces) == 4
    assert list(sse.pieces([])) == []
