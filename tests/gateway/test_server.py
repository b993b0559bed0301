"""The server in a process of its own, with real signals: drained, flushed and gone in time, whatever hangs."""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.drain import Drain
from gateway.server import Address, BadBind, CannotListen, ServerEnded, listen, serving
from gateway.server_config import BadServerConfig
from gateway.server_settings import ServerSettings
from tests.gateway.served import WAIT_SECONDS, connected, get, problem, served
from tests.gateway.test_drain import App

ROOT = Path(__file__).resolve().parent.parent.parent


class Running:
    """The process: its address, and how it ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.errors = b""

    async def word(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().strip()

    async def address(self) -> Address:
        host, _, port = (await self.word()).rpartition(":")
        return Address(host, int(port))

    def signal(self, number: signal.Signals) -> float:
        self.process.send_signal(number)
        return time.monotonic()

    async def end(self) -> tuple[int, list[str]]:
        """Exit code, and the words it said; ``errors`` then holds its log."""
        out, self.errors = await asyncio.wait_for(self.process.communicate(), 60)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode().split("\n")[:-1]

    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.errors.splitlines()]


@asynccontextmanager
async def started(way: str = "flush", **environment: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.gateway.served_process", way),
        cwd=ROOT,
        env={**os.environ, "DRAIN_SECONDS": "5", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        process_group=0,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_flushes(number: signal.Signals) -> None:
    """Issue row 5: an open stream, a websocket, an idle connection and a slow request; the last one is waited for."""
    async with started() as running, aiohttp.ClientSession() as session:
        address = await running.address()
        async with (
            connected(address) as slow,
            connected(address) as stream,
            connected(address) as idle,
            connected(address) as torn,
            session.ws_connect(f"ws://{address}/socket") as ws,
        ):
            await idle.send("/slow/0")
            await idle.until(b"done\r\n0\r\n\r\n")
            await stream.send("/stream")
            await stream.until(b"data: 1\n\n\r\n")
            torn.writer.write(b"GET /slow/0 HTTP/1.1\r\nhos")
            await slow.send("/slow/0.7")
            told = asyncio.create_task(ws.receive())
            await asyncio.sleep(0.1)  # the slow request is under way
            began = running.signal(number)
            assert (await slow.head())[0] == 200
            assert await stream.rest() == b"d\r\nretry: 1000\n\n\r\n0\r\n\r\n"
            await told
            assert ws.close_code == 1012
            assert await idle.rest() == b""
            code, words = await running.end()
        took = time.monotonic() - began
    assert (code, words) == (0, ["flushing", "flushed", "ended"])
    assert took < 5.0
    assert [line["message"] for line in running.log() if line["level"] != "INFO"] == []


async def test_a_second_signal_ends_the_waiting_but_not_the_flush() -> None:
    async with started(DRAIN_SECONDS="60") as running:
        address = await running.address()
        async with connected(address) as slow:
            await slow.send("/slow/60")
            await until_open(address)
            running.signal(signal.SIGTERM)
            await until_draining(address)
            began = running.signal(signal.SIGTERM)
            assert (await slow.head())[0] == 503
            code, words = await running.end()
    assert (code, words) == (0, ["flushing", "flushed", "ended"])
    assert time.monotonic() - began < 10.0


async def test_drain_seconds_is_kept() -> None:
    async with started(DRAIN_SECONDS="0.3") as running:
        address = await running.address()
        async with connected(address) as slow:
            await slow.send("/slow/60")
            await until_open(address)
            began = running.signal(signal.SIGTERM)
            assert (await slow.head())[0] == 503
            assert time.monotonic() - began >= 0.3
            assert (await running.end())[0] == 0


async def test_a_reader_that_stands_still_does_not_hold_the_process() -> None:
    async with started() as running:
        address = await running.address()
        async with connected(address) as stream:
            await stream.send("/stream")
            await stream.until(b"data: 1\n\n\r\n")
            running.signal(signal.SIGTERM)
            code, words = await running.end()
    assert (code, words[-2:]) == (0, ["flushed", "ended"])


@pytest.mark.parametrize("way", ["hang", "block"])
async def test_what_hangs_after_the_drain_is_ended_by_force(way: str) -> None:
    """Exit 70: somebody should look. The log says what was left, and is written."""
    async with started(way) as running:
        await running.address()
        began = running.signal(signal.SIGTERM)
        code, words = await running.end()
    assert code == 70
    assert "ended" not in words or way == "block"
    assert time.monotonic() - began < 20.0
    assert b"the process did not end within 1 s and is ended now" in running.errors


async def test_a_call_that_swallows_its_cancellation_does_not_hold_the_process() -> None:
    """``Runner.close`` alone would wait for it for ever (40 s and counting, on every Python)."""
    async with started(DRAIN_SECONDS="0") as running:
        address = await running.address()
        async with connected(address) as client:
            await client.send("/swallows")
            await until_open(address)
            running.signal(signal.SIGTERM)
            code, words = await running.end()
    assert (code, words[:2]) == (70, ["flushing", "flushed"])


async def test_a_signal_before_it_serves_closes_what_was_started() -> None:
    async with started("early") as running:
        assert await running.word() == "starting"
        running.signal(signal.SIGTERM)
        code, words = await running.end()
    assert (code, words) == (0, ["closed", "ended"])


async def test_a_port_in_use_is_one_sentence() -> None:
    """Issue row 7: no traceback, an exit code of its own."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        async with started(GATEWAY_BIND=bind) as running:
            code, words = await running.end()
    assert (code, words) == (69, [f"The gateway cannot listen on {bind}: address already in use.", "ended"])
    assert running.log() == []


async def until_open(address: Address) -> None:
    """Requests on other connections are answered after those that came before were begun."""
    assert (await get(address, "/slow/0"))[0] == 200


async def until_draining(address: Address) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (await get(address, "/readyz"))[0] != 503:
            pass


@pytest.mark.parametrize(
    "bind", ["", "8000", ":8000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:8000", "no.such.host.invalid:1"]
)
def test_what_is_no_address_is_one_sentence(bind: str) -> None:
    with pytest.raises(BadBind, match=r"^GATEWAY_BIND .*\.$"):
        listen(bind, 16)


def test_an_address_that_is_not_ours_is_one_sentence() -> None:
    with pytest.raises(CannotListen, match=r"^The gateway cannot listen on 192\.0\.2\.1:8000: "):
        listen("192.0.2.1:8000", 16)


def test_an_address_is_written_as_it_is_given() -> None:
    assert str(Address("::1", 8000)) == "[::1]:8000"
    assert Address("127.0.0.1", 1).url == "http://127.0.0.1:1"


def test_connections_inherit_that_the_dead_are_let_go() -> None:
    with listen("127.0.0.1:0", 16) as listener, socket.create_connection(listener.getsockname()) as _:
        taken, _ = listener.accept()
        with taken:
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if sys.platform == "linux":
                assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


async def test_a_server_whose_configuration_is_wrong_does_not_start(tmp_path: Path) -> None:
    wrong = tmp_path / "hypercorn.toml"
    wrong.write_text("workers = 4")
    app = App()
    settings = ServerSettings(gateway_bind="127.0.0.1:0", gateway_hypercorn_config=str(wrong))
    with pytest.raises(BadServerConfig):
        async with serving(app, settings, drain=Drain(app, refuse=problem(503))):
            pass


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # hypercorn drops it; the process ends anyway
async def test_a_server_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    """Such as TLS files that are not there: hypercorn finds out when it serves."""
    config = tmp_path / "hypercorn.toml"
    config.write_text('certfile = "none"\nkeyfile = "none"')
    app = App()
    settings = ServerSettings(gateway_bind="127.0.0.1:0", gateway_hypercorn_config=str(config))
    async with serving(app, settings, drain=Drain(app, refuse=problem(503))) as server:
        with pytest.raises(ServerEnded, match=r"^The server ended although it was not drained: .*No such file"):
            await server.wait()
    del server
    gc.collect()


async def test_a_drained_server_listens_no_more() -> None:
    async with served(App()) as (server, _):
        address = server.address
        assert (await get(address, "/livez"))[0] == 200
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(address.host, address.port)
