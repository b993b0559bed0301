"""The gateway's image and the compose file on a real daemon: the gateway in a container opens sessions beside itself.

The daemon has a network namespace of its own, in which the tests lay the way from the gateway's network to the
sessions' that docker/README.md tells an operator to lay.
"""

import asyncio
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from docker.aiodocker_service import AiodockerService
from docker.gateway_image import USER, gateway_image
from docker.image_archive import Image, install
from tests.docker.compose_file import read
from tests.docker.compose_run import Engine
from tests.docker.postgres_image import NAME as POSTGRES
from tests.docker.postgres_image import postgres_image
from tests.docker_fixtures import DockerDaemon, without_docker

pytestmark = [pytest.mark.docker, pytest.mark.patient, pytest.mark.timeout(300)]
LISTEN = 18000
SESSIONS = "gw-test-compose"  # the session network of these gateways


@pytest.fixture(scope="module")
def image(docker_daemon: DockerDaemon, echo_image: str) -> str:
    """The gateway's, on the daemon."""
    if not docker_daemon.enter:
        without_docker("the daemon of DOCKER_HOST is not ours: no rule can be laid between its networks")
    made = gateway_image()
    give(docker_daemon, made)
    return made.name


@pytest.fixture
def engine(docker_daemon: DockerDaemon) -> Iterator[Engine]:
    made = Engine(docker_daemon, f"gwtest{secrets.token_hex(3)}")
    try:
        yield made
    finally:
        for info in made.call("GET", f'/containers/json?all=1&filters={{"network":["{SESSIONS}"]}}'):
            made.call("DELETE", f"/containers/{info['Id']}?force=1&v=1", expect=(204,))
        made.remove()
        made.call("DELETE", f"/networks/{SESSIONS}", expect=(204, 404))


def give(daemon: DockerDaemon, image: Image) -> None:

    async def work() -> None:
        async with AiodockerService(daemon.settings) as service:
            await install(service, image, lambda _: None)

    asyncio.run(work())


@pytest.fixture
def certificates(docker_daemon: DockerDaemon, tmp_path: Path) -> Path:
    """What the gateway needs of them, for its own user."""
    for name in ("ca.pem", "client-cert.pem", "client-key.pem"):
        copied = shutil.copy(Path(docker_daemon.settings.docker_cert_path) / name, tmp_path / name)
        os.chown(copied, USER, USER)
    os.chown(tmp_path, USER, USER)
    return tmp_path


@contextmanager
def lines(daemon: DockerDaemon, *rules: str) -> Iterator[None]:
    """Packet rules in the daemon's namespace for as long as the block lasts; ``-I`` puts them first."""
    done = []
    try:
        for rule in rules:
            subprocess.run([*daemon.enter, "iptables", "--wait", *rule.split()], check=True, timeout=30)
            done.append(rule)
        yield
    finally:
        for rule in reversed(done):
            undo = rule.replace("-I ", "-D ", 1).split()
            subprocess.run([*daemon.enter, "iptables", "--wait", *undo], check=True, timeout=30)


def way_to_sessions(engine: Engine) -> tuple[str, str]:
    """As docker/README.md has it, for a daemon without the userland proxy."""
    network = engine.call("GET", f"/networks/{SESSIONS}")
    bridge = network["Options"].get("com.docker.network.bridge.name") or f"br-{network['Id'][:12]}"
    return (
        f"-I DOCKER-USER -i gw-front -o {bridge} -j ACCEPT",
        f"-I DOCKER-USER -i {bridge} -o gw-front -m conntrack --ctstate ESTABLISHED -j ACCEPT",
    )


def client(engine: Engine, gateway: str) -> httpx.Client:
    key = engine.file(gateway, "/var/lib/session-gateway/operator.key").strip()
    return httpx.Client(
        base_url=f"http://{engine.daemon.settings.publish_address}:{LISTEN}",
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
        trust_env=False,
    )


def opened(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/sessions", json={}, headers={"prefer": "wait=40"})
    assert answer.status_code == 201, answer.text
    session: dict[str, Any] = answer.json()
    return session


def use(client: httpx.Client, session: Mapping[str, Any]) -> None:
    """A request through the proxy, answered by the container."""
    token = {"authorization": f"Bearer {session['token']}"}
    answer = client.get(f"{session['links']['proxy']}global/health", headers=token)
    assert (answer.status_code, answer.json()["healthy"]) == (200, True)


def settings_of_test(daemon: DockerDaemon) -> dict[str, str]:
    return {
        "SESSION_NETWORK": SESSIONS,
        "SESSION_IMAGE": "session-gateway/echo:1",
        "CONTAINER_MEMORY_LIMIT": "128m",
        "CONTAINER_TMP_SIZE": "32m",
    }


def test_a_gateway_in_a_container_finds_the_way_to_its_sessions(image: str, engine: Engine, certificates: Path) -> None:
    """Nothing tells it where they are: its default route is the bridge, the daemon answers there, and ports appear
    there. Without a database of its own, since only the way is in question."""
    daemon = engine.daemon
    file = compose(daemon, certificates)
    gateway = file["services"]["gateway"]
    for name in [name for name in gateway["environment"] if name.startswith(("DB_", "PUBLISH_"))]:
        del gateway["environment"][name]
    gateway["networks"] = ["front"]
    engine.network("front", file["networks"]["front"])
    bridge = file["networks"]["front"]["ipam"]["config"][0]["gateway"]
    # The daemon of the tests listens on one address; one that serves containers does so on each.
    there = f"{daemon.settings.publish_address}:2376"
    everywhere = f"-t nat -I PREROUTING -d {bridge} -p tcp --dport 2376 -j DNAT --to-destination {there}"
    with lines(daemon, everywhere):
        name = engine.service("gateway", gateway, {**settings_of_test(daemon), "USE_DATABASE_STORAGE": "false"})
        engine.healthy(name)
        with lines(daemon, *way_to_sessions(engine)), client(engine, name) as http:
            session = opened(http)
            use(http, session)
            found = http.get("/health").json()["host_address"]
            assert (found["address"], found["method"], found["confirmed"]) == (bridge, "default route", True)
            assert f"ports appear on {bridge}" in engine.logs(name)


@pytest.mark.slow
def test_the_compose_file_runs(image: str, engine: Engine, certificates: Path) -> None:
    """Healthy; a session opened, used and stopped; nothing more open than it says; a drain; the log outlives it."""
    daemon = engine.daemon
    give(daemon, postgres_image())
    file = compose(daemon, certificates)
    for name, network in file["networks"].items():
        engine.network(name, network)
    postgres = engine.service("postgres", file["services"]["postgres"])
    engine.healthy(postgres)
    migrate = engine.service("migrate", file["services"]["migrate"])
    assert engine.ended(migrate) == 0, engine.logs(migrate)
    password = file["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]
    gateway = engine.service(
        "gateway", file["services"]["gateway"], {**settings_of_test(daemon), "POSTGRES_PASSWORD": password}
    )
    engine.healthy(gateway)
    with lines(daemon, *way_to_sessions(engine)), client(engine, gateway) as http:
        health = http.get("/health").json()
        assert (health["status"], health["log"]["kept_in"], health["runtime"]) == ("healthy", "database", "docker")
        assert health["host_address"]["method"] == "PUBLISH_ADDRESS"
        session = opened(http)
        use(http, session)
        check_closed(engine, gateway, postgres)
        assert password not in str(engine.inspect(gateway)), "what the network reaches cannot rewrite the log"
        assert http.delete(f"/sessions/{session['session_id']}", headers={"prefer": "wait=30"}).is_success
        engine.call("POST", f"/containers/{gateway}/stop?t=75", expect=(204,))
        ended = engine.inspect(gateway)["State"]
        assert (ended["ExitCode"], ended["OOMKilled"]) == (0, False), engine.logs(gateway)
        engine.call("POST", f"/containers/{gateway}/start", expect=(204,))
        engine.healthy(gateway)
        kept = http.get(f"/sessions/{session['session_id']}")
        assert (kept.status_code, kept.json()["status"]) == (200, "stopped")


def compose(daemon: DockerDaemon, certificates: Path) -> dict[str, Any]:
    return read(
        {
            "DB_PASSWORD": secrets.token_hex(24),
            "POSTGRES_PASSWORD": secrets.token_hex(24),
            "POSTGRES_IMAGE": POSTGRES,
            "CERTS_FOLDER": str(certificates),
            "DAEMON_URL": f"tcp://{daemon.settings.publish_address}:2376",
            "LISTEN": f"{daemon.settings.publish_address}:{LISTEN}",
        }
    )


def check_closed(engine: Engine, gateway: str, postgres: str) -> None:
    """What the daemon says of both, and what a session reaches."""
    for name, user in ((gateway, "10001:10001"), (postgres, "999:999")):
        found = engine.inspect(name)
        host = found["HostConfig"]
        assert (found["Config"]["User"], host["ReadonlyRootfs"], host["Privileged"]) == (user, True, False)
        assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges:true"])
        assert not [mount for mount in found["Mounts"] if "sock" in mount["Source"] or "sock" in mount["Destination"]]
    (session,) = engine.call("GET", f'/containers/json?filters={{"network":["{SESSIONS}"]}}')
    database = next(iter(engine.inspect(postgres)["NetworkSettings"]["Networks"].values()))["IPAddress"]
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    code, said = engine.run(session["Id"], "python3", "-c", reach, database, "5432")
    assert (code, "timed out" in said or "unreachable" in said) == (1, True), said
    assert engine.run(gateway, "/usr/bin/python3", "-c", reach, database, "5432")[0] == 0, "and it is there"
    code, said = engine.run(gateway, "/usr/bin/python3", "-c", "open('/app/x', 'w')")
    assert (code, "Read-only" in said) == (1, True), said
