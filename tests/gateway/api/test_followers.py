"""Those who follow the log: many at once, each event once and in order for each, and nobody waits for another."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from events.catalogue import LogRead, SubjectErased
from events.envelope import KEYS, SYSTEM, ActorKind
from events.filter import EventFilter
from gateway.access.keys import new_key, revoked
from gateway.access.roles import Role
from gateway.api import followers, sse
from gateway.recorder import Who
from projections import listener
from tests.factories import write
from tests.gateway.clients import stream
from tests.gateway.world import eventually
from tests.gateway_fixtures import Gateway, placed

WHO: Final = Who(kind=ActorKind.OPERATOR, id="test")
READS: Final = EventFilter(types=("log.read",))
_FRAME: Final = re.compile(rb"id: (\d+)\nevent: ")


async def tell(gateway: Gateway, times: int, *, bytes_each: int = 0) -> list[int]:
    """Facts of nobody, written together; their positions."""
    fact = LogRead(what="test", actor="x" * bytes_each or None)
    made = [await gateway.services.recorder.event(SYSTEM, fact, who=WHO) for _ in range(times)]
    found = list[int]()
    for start in range(0, times, 100):
        part = made[start : start + 100]
        await gateway.services.store.append(write(SYSTEM, *part))
        last = (await gateway.services.store.head()).position
        found += range(last - len(part) + 1, last + 1)
    await gateway.services.views.catch_up(found[-1])
    return found


def positions(pieces: list[bytes]) -> list[int]:
    return [int(found) for found in _FRAME.findall(b"".join(pieces))]


async def read(pieces: AsyncGenerator[bytes, None], last: int) -> list[int]:
    """The positions of what comes, up to ``last``."""
    got = list[bytes]()
    async with asyncio.timeout(20):
        while not (told := positions(got[-1:])) or told[-1] < last:
            got.append(await anext(pieces))
    return positions(got)


def always() -> bool:
    return True


class Follower:
    """A client on a socket of its own, which reads when it is told to."""

    def __init__(self, gateway: Gateway, query: str = "", *, receive_buffer: int | None = None) -> None:
        address = urlsplit(gateway.url)
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.setblocking(False)
        self._address = (address.hostname, address.port)
        key = str(gateway.client.headers["authorization"])
        self._request = f"GET /events/stream{query} HTTP/1.1\r\nhost: {address.netloc}\r\nauthorization: {key}\r\n\r\n"
        self.got = bytearray()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._address)
        await loop.sock_sendall(self._socket, self._request.encode())

    async def until(self, mark: bytes) -> None:
        """Read until ``mark`` came, or the stream ended. Raises TimeoutError."""
        async with asyncio.timeout(30):
            while mark not in self.got:
                piece = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 18)
                if not piece:
                    return
                self.got += piece

    @property
    def positions(self) -> list[int]:
        return positions([bytes(self.got)])

    def close(self) -> None:
        self._socket.close()


@contextlib.asynccontextmanager
async def connected(*clients: Follower) -> AsyncIterator[None]:
    try:
        await asyncio.gather(*(client.connect() for client in clients))
        await asyncio.gather(*(client.until(b"\nid: ") for client in clients))
        yield
    finally:
        for client in clients:
            client.close()


async def test_two_hundred_followers_get_every_event_once_and_in_order(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event is read once by the views and made into bytes once, for all of them."""
    clients = [Follower(gateway, "?type=log.read") for _ in range(200)]
    async with connected(*clients):
        await eventually(lambda: len(gateway.services.views._listeners) == 200)
        asked, search = 0, gateway.services.store.search

        async def counted(*what: Any, **more: Any) -> Any:
            nonlocal asked
            asked += 1
            return await search(*what, **more)

        monkeypatch.setattr(gateway.services.store, "search", counted)
        before = gateway.services.followers.rendered
        told = await tell(gateway, 20)
        told += await tell(gateway, 20)
        await asyncio.gather(*(client.until(b"id: %d\nevent" % told[-1]) for client in clients))
        for client in clients:
            assert [position for position in client.positions if position >= told[0]] == told
            assert client.positions == sorted(set(client.positions))
        assert gateway.services.followers.rendered - before == len(told)
        assert asked == 0, "who is at the head asks the log nothing"
    await eventually(lambda: not gateway.services.views._listeners)


async def test_who_does_not_read_slows_nobody_and_is_cut_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its buffers full, it is given up; when it reads at last it finds what it got, and the word that it was cut."""
    monkeypatch.setattr(sse, "SEND_SECONDS", 0.3)
    start = (await gateway.services.store.head()).position
    query = f"?after={start}&type=log.read"
    stuck, reader = Follower(gateway, query, receive_buffer=4096), Follower(gateway, query)
    async with connected(stuck, reader):
        told = list[int]()
        while gateway.services.views._listeners and len(told) < 2000:
            told += await tell(gateway, 20, bytes_each=50_000)
            await reader.until(b"id: %d\nevent" % told[-1])
            if len(gateway.services.views._listeners) == 1:
                break
        assert len(gateway.services.views._listeners) == 1, "the one that reads is there"
        assert [position for position in reader.positions if position >= told[0]] == told
        await stuck.until(b"event: overrun\n")
        assert b"event: overrun\n" in stuck.got
        got = stuck.positions
        assert got == reader.positions[: len(got)], "no gap and no double up to where it was cut"
    async with stream(gateway, f"/events/stream?type=log.read&after={got[-1]}") as frames:
        assert (await anext(frames)).data is None
        assert (await anext(frames)).position == got[-1] + 1


async def test_who_falls_behind_reads_the_log_and_comes_back(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a follower is bounded; beyond it the log is its buffer, and nothing is lost or doubled."""
    monkeypatch.setattr(listener, "LISTENER_QUEUE", 5)
    monkeypatch.setattr(followers, "PAGE", 7)
    first = await tell(gateway, 30)
    async with contextlib.aclosing(gateway.services.followers.follow(READS, first[0] - 1, allowed=always)) as pieces:
        assert await read(pieces, first[-1]) == first
        waiting = asyncio.ensure_future(anext(pieces))
        await eventually(lambda: bool(gateway.services.views._listeners))
        later = await tell(gateway, 1)
        got = positions([await waiting])
        (own,) = gateway.services.views._listeners
        later += await tell(gateway, 40)
        assert own.overrun and own._queue.qsize() == 5
        got += await read(pieces, later[-1])
        assert got == later


async def test_history_meets_the_present_while_others_write(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first event, with pages and queues that are too small for the traffic."""
    monkeypatch.setattr(listener, "LISTENER_QUEUE", 3)
    monkeypatch.setattr(followers, "PAGE", 5)
    await tell(gateway, 40)
    writing = asyncio.create_task(_write(gateway, 40))
    async with contextlib.aclosing(gateway.services.followers.follow(EventFilter(), 0, allowed=always)) as pieces:
        got = await read(pieces, 60)
        await writing
        last = gateway.services.views.position
        got += await read(pieces, last) if got[-1] < last else []
    assert got == list(range(1, last + 1))


async def _write(gateway: Gateway, times: int) -> None:
    for number in range(times):
        await tell(gateway, 1 + number % 5)


async def test_who_waits_for_what_is_rare_learns_how_far_the_log_was_looked_at(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id without data says that the connection lives, and saves the next reading of what was looked at."""
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.02)
    wanted = EventFilter(types=("container.lost",))
    async with contextlib.aclosing(gateway.services.followers.follow(wanted, 0, allowed=always)) as pieces:
        assert await anext(pieces) == sse.place(0)
        (last, *_) = await tell(gateway, 1)
        async with asyncio.timeout(5):
            while (piece := await anext(pieces)) != sse.place(last):
                assert re.fullmatch(rb"id: \d+\n\n", piece)


async def test_a_follower_ends_when_its_key_is_revoked(gateway: Gateway) -> None:
    """It was let in by that key, and is not any more."""
    fresh = new_key("auditor", Role.AUDITOR)
    await gateway.services.views.catch_up(await placed(gateway.services.recorder.fact(KEYS, fresh.created, who=WHO)))
    headers = {"authorization": f"Bearer {fresh.key}"}
    async with (
        stream(gateway, "/events/stream", headers=headers) as frames,
        stream(gateway, "/sessions/stream", headers=headers) as steps,
    ):
        await anext(frames)
        await anext(steps)
        await placed(gateway.services.recorder.fact(KEYS, revoked(fresh.created.key_id), who=WHO))
        assert {frame.event for frame in [each async for each in frames]} <= {"log.read", "api_key.revoked"}
        assert [each async for each in steps] == []


async def test_what_was_opened_is_forgotten_with_its_subject(gateway: Gateway) -> None:
    """Frames that are kept for the next follower hold names in clear: none outlives the erasure."""
    await gateway.open({"owner": "ada"})
    (requested,) = await gateway.log("session.requested")
    (frame,) = await gateway.services.followers.frames([requested])
    assert b'"owner":"ada"' in frame
    key_ids = await gateway.services.keyring.erase("ada")
    fact = SubjectErased(key_ids=key_ids, reason="asked")
    await gateway.services.views.catch_up(await placed(gateway.services.recorder.fact(SYSTEM, fact, who=WHO)))
    (frame,) = await gateway.services.followers.frames([requested])
    assert b'"owner":"[erased]"' in frame


async def test_what_is_kept_is_bounded(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    await tell(gateway, 30)
    log = await gateway.log("log.read")
    one = len((await gateway.services.followers.frames(log[:1]))[0])
    monkeypatch.setattr(followers, "KEPT_BYTES", 5 * one)
    frames = await gateway.services.followers.frames(log)
    assert len(frames) == len(log)
    assert 3 <= len(gateway.services.followers._frames) <= 5
