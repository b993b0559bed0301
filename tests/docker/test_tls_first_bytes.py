"""The first bytes on the wire are a TLS ClientHello, whatever is asked for and however DOCKER_HOST is written.

On ``tcp://`` aiodocker sends plain text although it was given a TLS context, and whoever listens reads the requests.
"""

import asyncio
import contextlib
import inspect
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from docker import diagnose
from docker.aiodocker_service import AiodockerService
from docker.authority import Authority
from docker.errors import BadDockerSettings, DockerError
from docker.settings import DockerSettings
from tests.docker.stub_daemon import furnish, settings_for

HANDSHAKE, CLIENT_HELLO, TLS = 22, 1, 3  # RFC 8446, 5.1 and 4


class Recorder:
    """Takes what comes first over each connection, and answers as a daemon without TLS does."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        async with await asyncio.start_server(self._hear, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.read(4096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


async def first_event(service: AiodockerService) -> None:
    async for _ in service.events():
        return


Call = Callable[[AiodockerService], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "create_container": lambda service: service.create_container("gw-0", "image"),
    "start_container": lambda service: service.start_container("c"),
    "stop_container": lambda service: service.stop_container("c"),
    "remove_container": lambda service: service.remove_container("c"),
    "get_container_info": lambda service: service.get_container_info("c"),
    "list_containers": lambda service: service.list_containers(),
    "list_volumes": lambda service: service.list_volumes(),
    "remove_volume": lambda service: service.remove_volume("v"),
    "logs": lambda service: service.logs("c"),
    "events": first_event,
    "ping": lambda service: service.ping(),
    "image_id": lambda service: service.image_id("image"),
    "load_image": lambda service: service.load_image(io.BytesIO(b"archive")),
    "host_address": lambda service: service.host_address(),
    "examine": lambda service: service.examine(),
    "daemon_certificate": lambda service: service.daemon_certificate(),
}
SENDS_NOTHING = {"close", "on_return"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path / "certs", Authority())


def test_every_call_of_the_service_is_recorded_here() -> None:
    """A call that is added to the service is added above."""
    there = {name for name, _ in inspect.getmembers(AiodockerService, inspect.isfunction) if not name.startswith("_")}
    assert there - SENDS_NOTHING == set(CALLS)


@pytest.mark.parametrize("scheme", ["tcp", "https"])
async def test_every_call_begins_with_a_client_hello(folder: Path, scheme: str) -> None:
    for name, call in CALLS.items():
        recorder = Recorder()
        async with recorder.listening() as port:
            host = f"{scheme}://127.0.0.1:{port}"
            with contextlib.suppress(DockerError):
                await asked(settings_for(folder, port, docker_host=host), call)
        assert recorder.heard, f"{name} sent nothing"
        assert all(map(is_client_hello, recorder.heard)), f"{name} sent {recorder.heard}"


@pytest.mark.parametrize("scheme", ["tcp", "https", "TCP"])
async def test_a_diagnosis_begins_with_a_client_hello(folder: Path, scheme: str) -> None:
    recorder = Recorder()
    async with recorder.listening() as port:
        found = await diagnose.diagnose(settings_for(folder, port, docker_host=f"{scheme}://127.0.0.1:{port}"))
    assert found.verdict == "plain-text"
    assert recorder.heard
    assert all(map(is_client_hello, recorder.heard))


@pytest.mark.parametrize(
    "changes",
    [
        {"docker_host": "http://127.0.0.1:{port}"},
        {"docker_host": "unix:///run/daemon"},
        {"docker_host": "127.0.0.1:{port}"},
        {"docker_host": "ssh://127.0.0.1:{port}"},
        {"docker_tls_verify": False},
    ],
)
async def test_another_way_of_speaking_is_refused_before_any_byte(folder: Path, changes: dict[str, Any]) -> None:
    recorder = Recorder()
    async with recorder.listening() as port:
        given = {name: value.format(port=port) if isinstance(value, str) else value for name, value in changes.items()}
        settings = settings_for(folder, port, **given)
        for name, call in CALLS.items():
            if name == "ping":
                assert await asked(settings, call) is False
            else:
                with pytest.raises(BadDockerSettings):
                    await asked(settings, call)
        assert (await diagnose.diagnose(settings)).verdict == "bad-settings"
    assert recorder.heard == []


async def asked(settings: DockerSettings, call: Call) -> Any:
    service = AiodockerService(settings)
    try:
        return await call(service)
    finally:
        await service.close()


def is_client_hello(first: bytes) -> bool:
    return len(first) > 5 and (first[0], first[1], first[5]) == (HANDSHAKE, TLS, CLIENT_HELLO) and b"HTTP" not in first
