"""What only the real daemon can show: limits that hold, a port that only this machine reaches, refused certificates.

The contract itself is in tests/contracts.
"""

import asyncio
import contextlib
import secrets
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from docker import certs, names, spec
from docker.aiodocker_service import AiodockerService
from docker.errors import (
    BadCertificateFiles,
    DaemonFailed,
    DaemonPlainText,
    DaemonRefusedUs,
    DaemonUntrusted,
    DockerError,
    HostAddressUnknown,
    ImageMissing,
    LimitsNotApplied,
    NoDaemon,
)
from docker.firewall_rules import BRIDGE_OPTION
from docker.host_ip import HostAddress
from docker.service import ContainerEvent, Volume
from docker.settings import DockerSettings
from docker.tls import PLAIN_TEXT_ANSWER
from tests.contracts.runtimes import ProcessRuntime, daemon_runtime, until
from tests.docker_fixtures import DockerDaemon


@pytest.fixture
async def runtime(docker_daemon: DockerDaemon, echo_image: str) -> AsyncIterator[ProcessRuntime]:
    async with daemon_runtime(docker_daemon) as opened:
        yield opened


@contextlib.asynccontextmanager
async def with_settings(daemon: DockerDaemon, **changes: object) -> AsyncIterator[ProcessRuntime]:
    async with daemon_runtime(msgspec.structs.replace(daemon, settings=altered(daemon, **changes))) as opened:
        yield opened


def altered(daemon: DockerDaemon, **changes: object) -> DockerSettings:
    return msgspec.structs.replace(daemon.settings, **changes)


@pytest.mark.docker
async def test_limits_are_those_that_were_set(docker_daemon: DockerDaemon, echo_image: str) -> None:
    changes = {"container_memory_limit": "64m", "container_cpu_quota": 50_000, "container_pids_limit": 20}
    async with with_settings(docker_daemon, **changes) as runtime:
        made = await runtime.create(names.container_name())
        said = docker_daemon.ask("GET", f"/containers/{made.id}/json")[1]["HostConfig"]
    assert (said["Memory"], said["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (said["CpuQuota"], said["CpuPeriod"], said["PidsLimit"]) == (50_000, 100_000, 20)


class MovingAddress(HostAddress):
    """An address to publish on that is another each time."""

    def __init__(self, settings: DockerSettings, *addresses: str) -> None:
        super().__init__(settings)
        self._turns = [msgspec.structs.replace(settings, publish_address=each) for each in addresses]

    async def publishing(self) -> DockerSettings:
        return self._turns.pop(0)


@pytest.mark.docker
async def test_creates_at_once_are_each_held_to_the_address_that_they_found(
    docker_daemon: DockerDaemon, echo_image: str
) -> None:
    wanted = ["127.0.0.2", "127.0.0.3"]
    host = MovingAddress(docker_daemon.settings, *wanted)
    async with daemon_runtime(docker_daemon) as direct, AiodockerService(docker_daemon.settings, host) as service:
        runtime = ProcessRuntime(service, direct.owner)
        made = await asyncio.gather(*(runtime.create(names.container_name()) for _ in wanted))
        bound = [docker_daemon.ask("GET", f"/containers/{each.id}/json")[1]["HostConfig"] for each in made]
    assert [each["PortBindings"]["4096/tcp"][0]["HostIp"] for each in bound] == wanted


@pytest.mark.docker
async def test_a_daemon_that_cannot_hold_sessions_is_given_none(
    runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked at a create too: the daemon of the gateway's start may be another by then."""

    async def without_a_limit(system: object) -> dict[str, object]:
        return {"SecurityOptions": ["name=seccomp,profile=default"], "PidsLimit": False}

    monkeypatch.setattr("aiodocker.system.DockerSystem.info", without_a_limit)
    name = names.container_name()
    with pytest.raises(LimitsNotApplied, match="PidsLimit is not supported"):
        await runtime.create(name)
    assert await runtime.service.get_container_info(name) is None


@pytest.mark.docker
async def test_a_session_has_no_power_inside(runtime: ProcessRuntime) -> None:
    status = "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status"
    script = f"id -u; {status}; touch /x 2>&1; touch /etc/x 2>&1; touch /home/app/x 2>&1; exit 0"
    _, said = await runtime.ran("/bin/sh", "-c", script)
    words = [line.split() for line in said]
    assert words[:4] == [["1000"], ["CapBnd:", "0000000000000000"], ["NoNewPrivs:", "1"], ["Seccomp:", "2"]]
    assert len(said) == 7
    assert all("Read-only file system" in line for line in said[4:])


@pytest.mark.docker
async def test_tmp_runs_programs_and_is_bounded(docker_daemon: DockerDaemon, echo_image: str) -> None:
    script = "cp /bin/busybox /tmp/ && /tmp/busybox echo runs; dd if=/dev/zero of=/tmp/big bs=1M count=9 2>&1 | head -1"
    async with with_settings(docker_daemon, container_tmp_size="8m") as runtime:
        _, said = await runtime.ran("/bin/sh", "-c", script)
    assert said[0] == "runs"
    assert "No space left" in said[1]


@pytest.mark.docker
async def test_a_memory_hog_is_killed_and_told(docker_daemon: DockerDaemon, echo_image: str) -> None:
    events: list[ContainerEvent] = []
    async with with_settings(docker_daemon, container_memory_limit="48m") as runtime:

        async def follow() -> None:
            async for event in runtime.service.events():
                events.append(event)

        follower = asyncio.create_task(follow())
        try:
            async with asyncio.timeout(60):
                while not {"oom", "die"} <= {event.kind for event in events if event.exit_code in (None, 137)}:
                    info, _ = await runtime.ran("python3", "-c", "bytearray(200 << 20)")
                    assert (info.exit_code, info.oom_killed) == (137, True)
        finally:
            follower.cancel()
            await asyncio.wait([follower])


@pytest.mark.docker
async def test_containers_cannot_reach_each_other(runtime: ProcessRuntime, docker_daemon: DockerDaemon) -> None:
    """One session's agent is another user's enemy."""
    served = await runtime.create(names.container_name())
    await runtime.service.start_container(served.id)
    said = docker_daemon.ask("GET", f"/containers/{served.id}/json")[1]["NetworkSettings"]["Networks"]
    address = said[docker_daemon.settings.session_network]["IPAddress"]
    script = f"import socket; socket.create_connection(('{address}', 4096), 2)"

    def host_reaches_it() -> bool:
        command = [*docker_daemon.enter, sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0

    async def serving() -> bool:
        return await asyncio.to_thread(host_reaches_it)

    await until(serving)
    info, lines = await runtime.ran("python3", "-c", script)
    assert info.exit_code == 1
    assert "TimeoutError" in lines[-1] or "ConnectionRefused" in lines[-1] or "No route" in lines[-1]


@pytest.mark.docker
async def test_a_port_on_loopback_is_reached_by_its_machine_alone(docker_daemon: DockerDaemon, echo_image: str) -> None:
    if not docker_daemon.enter:
        pytest.skip("the daemon given by DOCKER_HOST shares our loopback: nothing to tell apart")
    elsewhere = docker_daemon.settings.publish_address
    there = altered(docker_daemon, publish_address="127.0.0.1")
    async with (
        with_settings(docker_daemon, publish_address="127.0.0.1", host_ip=elsewhere) as runtime,
        AiodockerService(there) as other,
    ):
        made = await runtime.create(names.container_name())
        await runtime.service.start_container(made.id)
        info = await other.get_container_info(made.id)
        assert info is not None
        assert info.address is not None
        # The loopback of another machine is never taken for ours, where something else may listen on that port.
        assert info.address.host == elsewhere
        with pytest.raises(HostAddressUnknown, match="No session starts"):
            await ProcessRuntime(other, runtime.owner).create(names.container_name())
        port = info.address.port
        script = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"

        async def reached_inside() -> bool:
            command = [*docker_daemon.enter, sys.executable, "-c", script]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=20)
            return done.returncode == 0

        await until(reached_inside)
        with pytest.raises(OSError):
            await asyncio.wait_for(asyncio.open_connection(elsewhere, port), 2)


@pytest.mark.docker
async def test_volumes_are_made_with_their_labels_by_a_create_that_succeeds(
    runtime: ProcessRuntime, docker_daemon: DockerDaemon
) -> None:
    """A volume of a session that never was would belong to nobody."""
    volume = Volume(names.volume_name("home"), "/home/app", names.owned_by(runtime.owner))
    with pytest.raises(ImageMissing):
        await runtime.create(names.container_name(), image="session-gateway/no-such-image:0", volumes=(volume,))
    assert docker_daemon.ask("GET", f"/volumes/{volume.name}")[0] == 404
    made = await runtime.create(names.container_name(), volumes=(volume,))
    assert docker_daemon.ask("GET", f"/volumes/{volume.name}")[1]["Labels"] == volume.labels
    await runtime.service.remove_container(made.id)
    assert docker_daemon.ask("GET", f"/volumes/{volume.name}")[0] == 200
    await runtime.service.remove_volume(volume.name)


@pytest.mark.docker
async def test_gateways_that_start_at_once_share_one_network(docker_daemon: DockerDaemon, echo_image: str) -> None:
    """With two networks of one name every later create would be refused as ambiguous."""
    network = f"session-gateway-test-{secrets.token_hex(4)}"
    changed = msgspec.structs.replace(docker_daemon, settings=altered(docker_daemon, session_network=network))
    try:
        async with contextlib.AsyncExitStack() as stack:
            runtimes = [await stack.enter_async_context(daemon_runtime(changed)) for _ in range(4)]
            await asyncio.gather(*(runtime.create(names.container_name()) for runtime in runtimes))
            found = [item for item in docker_daemon.ask("GET", "/networks")[1] if item["Name"] == network]
            assert len(found) == 1
            assert found[0]["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    finally:
        docker_daemon.ask("DELETE", f"/networks/{network}")


@pytest.mark.docker
async def test_a_network_with_another_interface_serves_and_is_told_once(
    docker_daemon: DockerDaemon, echo_image: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One of an older release: its sessions go on, but a firewall that names the interface does not hold them."""
    network = f"session-gateway-test-{secrets.token_hex(4)}"
    former = msgspec.structs.replace(
        docker_daemon, settings=altered(docker_daemon, session_network=network, session_bridge=f"f{network[-8:]}")
    )
    changed = msgspec.structs.replace(docker_daemon, settings=altered(docker_daemon, session_network=network))
    try:
        async with daemon_runtime(former) as runtime:
            await runtime.create(names.container_name())
        assert not caplog.messages
        async with daemon_runtime(changed) as runtime:
            for _ in range(2):
                await runtime.create(names.container_name())
        (told,) = caplog.messages
        assert f"f{network[-8:]}, not {spec.network_body(changed.settings)['Options'][BRIDGE_OPTION]}" in told
    finally:
        docker_daemon.ask("DELETE", f"/networks/{network}")


@pytest.mark.docker
async def test_the_address_after_a_restart_is_the_new_one(runtime: ProcessRuntime) -> None:
    made = await runtime.create(names.container_name())
    for _ in range(2):
        await runtime.service.start_container(made.id)
        info = await runtime.service.get_container_info(made.id)
        assert info is not None
        assert info.address is not None
        host, port = info.address.host, info.address.port

        async def accepts(host: str = host, port: int = port) -> bool:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                return False
            writer.close()
            return True

        await until(accepts)
        await runtime.service.stop_container(made.id)


@pytest.mark.docker
@pytest.mark.parametrize("fault", ["another authority", "for daemons"])
async def test_a_real_daemon_refuses_our_wrong_certificate(
    docker_daemon: DockerDaemon, tmp_path: Path, fault: str
) -> None:
    if not docker_daemon.enter:
        pytest.skip("the CA's key of the daemon given by DOCKER_HOST is not ours")
    certs.generate(tmp_path)
    given = docker_daemon.settings.docker_cert_path
    pair = ("client-cert.pem", "client-key.pem")
    folder = str(tmp_path)
    if fault == "for daemons":
        pair, folder = ("server-cert.pem", "server-key.pem"), given
    settings = altered(
        docker_daemon,
        docker_ca_cert=f"{given}/ca.pem",
        docker_client_cert=f"{folder}/{pair[0]}",
        docker_client_key=f"{folder}/{pair[1]}",
    )
    async with AiodockerService(settings) as service:
        with pytest.raises(DaemonRefusedUs):
            await service.list_containers()
        assert await service.ping() is False


@pytest.mark.docker
async def test_a_real_daemon_of_another_authority_is_not_trusted(docker_daemon: DockerDaemon, tmp_path: Path) -> None:
    certs.generate(tmp_path)
    async with AiodockerService(altered(docker_daemon, docker_cert_path=str(tmp_path))) as service:
        with pytest.raises(DaemonUntrusted):
            await service.list_containers()


@contextlib.asynccontextmanager
async def canned(folder: Path, answer: bytes, *, plain: bool = False) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers everything alike, and what it was sent first."""
    certs.generate(folder)
    heard: list[bytes] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(4096))
        writer.write(answer)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server-cert.pem", folder / "server-key.pem")
    async with await asyncio.start_server(reply, "127.0.0.1", 0, ssl=None if plain else context) as server:
        yield server.sockets[0].getsockname()[1], heard


def http_answer(status: str, body: str, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


async def failure(folder: Path, port: int) -> DockerError:
    async with AiodockerService(
        DockerSettings(docker_host=f"tcp://127.0.0.1:{port}", docker_cert_path=str(folder))
    ) as service:
        with pytest.raises(DockerError) as caught:
            await service.list_containers()
        assert await service.ping() is False
        return caught.value


async def test_the_first_bytes_on_the_wire_are_a_client_hello(tmp_path: Path) -> None:
    """On tcp:// aiodocker would send plain text although it was given a TLS context."""
    async with canned(tmp_path, b"HTTP/1.1 400 Bad Request\r\n\r\n", plain=True) as (port, heard):
        found = await failure(tmp_path, port)
    assert isinstance(found, DaemonPlainText)
    assert all(first[0] == 22 and first[5] == 1 for first in heard), "record type handshake, message ClientHello"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (http_answer("500 Oops", '{"message": "disk full"}'), DaemonFailed, "disk full"),
        (
            http_answer("400 Bad", f"{PLAIN_TEXT_ANSWER}.", "text/plain"),
            DaemonPlainText,
            "",
        ),
        (http_answer("200 OK", "<html>", "text/html"), NoDaemon, ""),
        (http_answer("200 OK", "{not json"), NoDaemon, ""),
        (http_answer("200 OK", '{"message": "no version"}'), NoDaemon, ""),
        (b"SSH-2.0-hello\r\n", NoDaemon, ""),
    ],
)
async def test_whatever_answers_there_becomes_an_error_of_this_room(
    tmp_path: Path, answer: bytes, kind: type[DockerError], words: str
) -> None:
    async with canned(tmp_path, answer) as (port, _):
        found = await failure(tmp_path, port)
    assert type(found) is kind
    assert words in str(found)


async def test_absent_certificates_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    settings = DockerSettings(docker_host="tcp://127.0.0.1:1", docker_cert_path=str(tmp_path))
    with pytest.raises(BadCertificateFiles):
        async with AiodockerService(settings):
            pass
    assert await AiodockerService(settings).ping() is False
