"""From inside a real session: what it must not reach it does not, with the firewall, and does without it.

The daemon is one that ``daemon_setup`` set up, on an address that containers reach.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from docker import daemon_setup, image_archive
from docker.agent.model import StubModel
from docker.aiodocker_service import AiodockerService
from docker.image import echo_image
from gateway.app import application
from gateway.server import serving as served
from tests import debian_postgres
from tests.contracts.runtimes import ProcessRuntime, daemon_runtime
from tests.docker.daemon import PORT, missing
from tests.docker.probe import Targets, reached, serving
from tests.docker.set_up_daemon import SetUpDaemon, got, within
from tests.docker_fixtures import DockerDaemon, without_docker
from tests.gateway_fixtures import start_gateway

pytestmark = pytest.mark.docker

METADATA = "169.254.169.254"
ANSWER = "203.0.113.7"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def machine() -> Iterator[SetUpDaemon]:
    """Its daemon.json had a name server before it was set up, which stays there."""
    if reason := missing():
        without_docker(reason)
    daemon = SetUpDaemon(3)
    daemon.etc.mkdir(parents=True)
    (daemon.etc / "daemon.json").write_text(json.dumps({"dns": [daemon.gateway]}))
    try:
        daemon.prepare()
        options = ("--certs", str(daemon.folder / "certs"), "--listen", daemon.address, "--without-socket")
        assert daemon_setup.main([*options, "--root", str(daemon.root)]) == daemon_setup.DONE
        daemon.launch()
        yield daemon
    finally:
        daemon.stop()


@pytest.fixture
async def runtime(machine: SetUpDaemon) -> AsyncIterator[ProcessRuntime]:
    handle = DockerDaemon(settings=machine.settings, owner="firewall", enter=tuple(machine.enter))
    async with AiodockerService(machine.settings) as service:
        await image_archive.install(service, echo_image())
    async with daemon_runtime(handle) as opened:
        yield opened


def firewall(machine: SetUpDaemon, *options: str) -> tuple[int, str]:
    """Run it on the daemon's machine, with a Python that has no package but its own library."""
    command = [*machine.enter, sys.executable, "-S", "-m", "docker.firewall", "--root", str(machine.root), *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    return done.returncode, done.stdout + done.stderr


@contextlib.contextmanager
def listening(machine: SetUpDaemon) -> Iterator[int]:
    """Somebody answers on every address of the daemon's machine, the cloud's metadata address among them."""
    with within(machine.namespace):
        server = socket.create_server(("0.0.0.0", 0))
    with server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as connection:
                        connection.sendall(b"secret")

        threading.Thread(target=serve, daemon=True).start()
        subprocess.run(["ip", "-n", machine.namespace, "addr", "add", f"{METADATA}/32", "dev", "lo"], check=True)
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def name_server(address: str) -> Iterator[None]:
    """Answers every question for an IPv4 address with ``ANSWER``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))

        def serve() -> None:
            while True:
                question, client = server.recvfrom(512)
                if question == b"end":
                    return
                record = bytes.fromhex("c00c000100010000003c0004") + socket.inet_aton(ANSWER)
                end = question.index(b"\0", 12) + 5
                is_a = question[end - 3] == 1
                head = question[:2] + bytes.fromhex("81800001") + bytes([0, is_a]) + bytes(4)
                server.sendto(head + question[12:end] + (record if is_a else b""), client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        server.sendto(b"end", (address, 53))
        thread.join()


@contextlib.asynccontextmanager
async def gateway_at(address: str, folder: Path) -> AsyncIterator[int]:
    """A real gateway's port on an address that containers reach."""
    async with start_gateway(folder, {"SESSION_RUNTIME": "mock"}) as gateway:
        made = application(gateway.services)
        bind = msgspec.structs.replace(gateway.services.settings.server, gateway_bind=f"{address}:0", drain_seconds=1.0)
        async with served(made.asgi, bind, drain=made.drain) as server:
            yield int(server.address.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def surroundings(machine: SetUpDaemon, runtime: ProcessRuntime, folder: Path) -> AsyncIterator[Targets]:
    """Everything that a session could try, each of it real; and the neighbour's published port."""
    with (
        listening(machine) as port,
        name_server(machine.gateway),
        StubModel(machine.gateway) as model,
        StubModel(machine.gateway) as other,
        debian_postgres.running({"listen_addresses": machine.gateway}) as postgres,
    ):
        async with gateway_at(machine.gateway, folder) as gateway_port:
            neighbour = await serving(runtime)
            assert neighbour.address is not None
            network = machine.ask("GET", "/networks/session-gateway")[1]
            inspected = machine.ask("GET", f"/containers/{neighbour.id}/json")[1]
            targets: Targets = {
                "metadata": (METADATA, port),
                "postgres": (machine.gateway, postgres.port),
                "daemon": (machine.address, PORT),
                "operator routes": (machine.gateway, gateway_port),
                "model on the machine": (network["IPAM"]["Config"][0]["Gateway"], port),
                "the machine, by its address": (machine.address, port),
                "model": (machine.gateway, int(model.base_url.split(":")[2].split("/")[0])),
                "another model": (machine.gateway, int(other.base_url.split(":")[2].split("/")[0])),
                "neighbour": (inspected["NetworkSettings"]["Networks"]["session-gateway"]["IPAddress"], 4096),
                "neighbour's published port": (neighbour.address.host, neighbour.address.port),
            }
            yield targets


async def test_a_session_reaches_its_model_and_nothing_else_of_ours(
    machine: SetUpDaemon, runtime: ProcessRuntime, tmp_path: Path
) -> None:
    async with surroundings(machine, runtime, tmp_path) as targets:
        models = [targets["model"], targets["model on the machine"]]
        allowed = [part for host, port in models for part in ("--allow", f"{host}:{port}")]
        open_before = await reached(runtime, targets, "host.example")
        assert firewall(machine, "--check")[0] == 10
        assert firewall(machine, *allowed)[0] == 0
        held = await reached(runtime, targets, "host.example")
        code, said = firewall(machine, *allowed)
        assert (code, said.startswith("Nothing to do")) == (0, True)
        assert firewall(machine, *allowed, "--check")[0] == 0
        assert await asyncio.to_thread(got, *targets["neighbour's published port"], "/global/health") == 200
        machine.restart()  # a dockerd that starts writes its own rules anew
        assert firewall(machine, *allowed, "--check")[0] == 0
    assert held == dict.fromkeys(targets, False) | {"model": True, "model on the machine": True, "dns": ANSWER}
    by_docker_itself = {"neighbour": False, "neighbour's published port": False}
    assert open_before == dict.fromkeys(targets, True) | by_docker_itself | {"dns": ANSWER}
