"""Other certificate files under running conversations: the next one has them, and none is disturbed."""

import asyncio
from pathlib import Path

import pytest

from docker.authority import Authority
from docker.connection import Connection
from docker.errors import DaemonUntrusted
from docker.identity import Credentials
from tests.docker.cert_folder import Clock, issue, issue_server, settings_of
from tests.docker.certified_daemon import CertifiedDaemon, certified_daemon, serial_of
from tests.gateway.served import reached


def connection_to(folder: Path, daemon: CertifiedDaemon, clock: Clock) -> Connection:
    settings = settings_of(folder, daemon.port)
    return Connection(settings, Credentials(settings, now=clock.now, monotonic=clock.monotonic))


async def images(connection: Connection) -> None:
    async with connection.call("list images") as client:
        await client.images.list()


async def containers(connection: Connection) -> None:
    async with connection.call("list containers") as client:
        await client.containers.list()


async def test_the_next_conversation_shows_the_new_certificate_and_the_former_ends_in_peace(tmp_path: Path) -> None:
    authority, clock = Authority(), Clock()
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    old = serial_of(tmp_path)
    async with certified_daemon(tmp_path) as daemon:
        connection = connection_to(tmp_path, daemon, clock)
        await containers(connection)
        under_way = [asyncio.create_task(images(connection)) for _ in range(3)]
        await reached(lambda: len(daemon.serials("/images/json")) == 3)
        issue(tmp_path, authority)
        new = serial_of(tmp_path)
        clock.pass_by()
        for _ in range(3):
            await containers(connection)
        assert daemon.serials("/containers/json") == [old, new, new, new]
        assert connection.clients.open == 2, "the former is open for what began on it"
        daemon.release.set()
        await asyncio.gather(*under_way)
        assert daemon.serials("/images/json") == [old] * 3
        await reached(lambda: connection.clients.open == 1 and daemon.open == 1)
        await connection.close()
        await reached(lambda: daemon.open == 0)


async def test_a_conversation_that_is_cancelled_lets_the_former_client_be_closed(tmp_path: Path) -> None:
    authority, clock = Authority(), Clock()
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    async with certified_daemon(tmp_path) as daemon:
        connection = connection_to(tmp_path, daemon, clock)
        under_way = asyncio.create_task(images(connection))
        await reached(lambda: len(daemon.serials("/images/json")) == 1)
        issue(tmp_path, authority)
        clock.pass_by()
        connection.clients.current()
        under_way.cancel()
        await asyncio.wait([under_way])
        await reached(lambda: connection.clients.open == 1)
        daemon.release.set()
        await reached(lambda: daemon.open == 0)
        await connection.close()


async def test_an_authority_that_was_taken_out_is_trusted_no_more(tmp_path: Path) -> None:
    """The way to revoke: both are trusted for a while, then the new one alone, without a restart of ours."""
    old, new, clock = Authority(), Authority(), Clock()
    both = old.certificate + new.certificate
    issue(tmp_path, old)
    issue_server(tmp_path, old)
    async with certified_daemon(tmp_path, authority=both) as daemon:
        connection = connection_to(tmp_path, daemon, clock)
        await containers(connection)
        issue(tmp_path, new, ca=both)
        clock.pass_by()
        await containers(connection)
        issue(tmp_path, new)
        clock.pass_by()
        with pytest.raises(DaemonUntrusted):
            await containers(connection)
        issue_server(tmp_path, new)
        await daemon.stop()
        await daemon.start()
        await containers(connection)
        await connection.close()


async def test_everything_is_closed_at_the_end_whatever_is_under_way(tmp_path: Path) -> None:
    authority, clock = Authority(), Clock()
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    async with certified_daemon(tmp_path) as daemon:
        connection = connection_to(tmp_path, daemon, clock)
        under_way = asyncio.create_task(images(connection))
        await reached(lambda: len(daemon.serials("/images/json")) == 1)
        issue(tmp_path, authority)
        clock.pass_by()
        await containers(connection)
        await connection.close()
        await asyncio.wait([under_way])
        assert under_way.exception() is not None
        daemon.release.set()
        await reached(lambda: daemon.open == 0)
        assert connection.clients.open == 0


async def test_many_short_conversations_at_once_share_few_connections(tmp_path: Path) -> None:
    """Each handshake holds the event loop up: whoever waits for one takes a connection that came free instead."""
    authority = Authority()
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    async with certified_daemon(tmp_path) as daemon:
        connection = connection_to(tmp_path, daemon, Clock())
        await asyncio.gather(*(containers(connection) for _ in range(60)))
        assert daemon.open <= 20
        await connection.close()


async def test_long_conversations_are_not_bounded_by_the_handshakes_at_a_time(tmp_path: Path) -> None:
    authority = Authority()
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    async with certified_daemon(tmp_path) as daemon:
        connection = connection_to(tmp_path, daemon, Clock())
        under_way = [asyncio.create_task(images(connection)) for _ in range(120)]  # aiohttp's own bound is 100
        await reached(lambda: len(daemon.serials("/images/json")) == 120)
        await containers(connection)
        daemon.release.set()
        await asyncio.gather(*under_way)
        await connection.close()


async def test_the_end_waits_for_clients_that_are_being_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop ends after it: what is not closed by then is told as left open, and its sockets with it."""
    authority, clock, gate = Authority(), Clock(), asyncio.Event()
    issue(tmp_path, authority)
    issue_server(tmp_path, authority)
    async with certified_daemon(tmp_path) as daemon:
        connection = connection_to(tmp_path, daemon, clock)
        await containers(connection)
        former = connection.clients.current()
        close = former.close

        async def slow() -> None:
            await gate.wait()
            await close()

        monkeypatch.setattr(former, "close", slow)
        issue(tmp_path, authority)
        clock.pass_by()
        await containers(connection)
        ending = asyncio.create_task(connection.close())
        await reached(lambda: daemon.open == 1)  # the newer one is closed
        await asyncio.sleep(0)
        assert not ending.done()
        gate.set()
        await ending
        assert connection.clients.open == 0
