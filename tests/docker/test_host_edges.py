"""What is asked of the real machine and of a real TLS port."""

import asyncio
import ssl
from pathlib import Path

import pytest

from docker import certs
from docker.host_edges import identity, own_address, read, resolve
from docker.settings import DockerSettings


async def test_a_name_has_its_addresses_once() -> None:
    assert "127.0.0.1" in (found := await resolve("localhost"))
    assert len(set(found)) == len(found)
    with pytest.raises(OSError):
        await resolve("no-such-name.invalid")


def test_our_own_address_is_found_without_a_packet() -> None:
    assert own_address("127.0.0.1") == "127.0.0.1"
    with pytest.raises(OSError):
        own_address("not an address")


def test_a_file_is_read_whatever_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "route").write_bytes(b"Iface\xff\n")
    assert read(str(tmp_path / "route")).startswith("Iface")


async def test_a_daemon_is_known_by_its_certificate(tmp_path: Path) -> None:
    """By whatever name it is called; one of another CA, a plain port and a closed one are nobody."""
    certs.generate(tmp_path / "ours", hosts=["elsewhere"], days=2)
    certs.generate(tmp_path / "theirs", hosts=["127.0.0.1"], days=2)
    found = []
    for folder in ("ours", "ours", "theirs"):
        server = await serving(tmp_path / folder)
        found.append(await identity(settings(tmp_path, server), "127.0.0.1"))
        server.close()
    assert found[0] is not None
    assert found == [found[0], found[0], None]
    assert await identity(settings(tmp_path, server), "127.0.0.1") is None, "closed"
    plain = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    assert await identity(settings(tmp_path, plain), "127.0.0.1") is None
    plain.close()
    assert await identity(DockerSettings(docker_host="tcp://127.0.0.1:1", docker_cert_path="/no"), "127.0.0.1") is None


async def serving(folder: Path) -> asyncio.Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
    return await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)


def settings(folder: Path, server: asyncio.Server) -> DockerSettings:
    port = server.sockets[0].getsockname()[1] if server.sockets else 1
    return DockerSettings(docker_host=f"tcp://127.0.0.1:{port}", docker_cert_path=str(folder / "ours"))
