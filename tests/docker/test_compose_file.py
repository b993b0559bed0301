"""The compose file: what it must and must not say; read by our own reader, and by Compose where it is installed."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from docker import gateway_image
from gateway import RELEASE
from gateway.server import CLOSE_SECONDS, RUNNER_SECONDS, SERVER_SECONDS
from gateway.server_settings import ServerSettings
from tests.docker.compose_file import FILE, interpolate, read, scalar, variables
from tests.docker.compose_run import seconds

NEEDED = {"DB_PASSWORD": "a" * 32, "POSTGRES_PASSWORD": "b" * 32}
SERVICES: dict[str, dict[str, Any]] = read(NEEDED)["services"]


@pytest.mark.parametrize("name", ["gateway", "migrate", "postgres"])
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc", "userns_mode"} & set(service)
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")
    assert service["pids_limit"] > 0
    assert service["init"] is True, "signals and orphans"


def test_no_daemons_socket_and_nothing_of_the_host_but_two_read_only_places() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    bound = {mount["source"]: mount["read_only"] for mount in mounts if mount["type"] == "bind"}
    assert bound == {"./certs": True, "./postgres-init.sh": True}
    assert [mount for mount in mounts if "sock" in str(mount)] == []
    assert SERVICES["gateway"]["environment"]["DOCKER_HOST"].startswith("tcp://")


def test_postgres_is_on_an_inner_network_alone() -> None:
    assert SERVICES["postgres"]["networks"] == ["database"]
    assert "ports" not in SERVICES["postgres"]
    assert read(NEEDED)["networks"]["database"]["internal"] is True


def test_the_gateway_is_reached_from_its_machine_alone() -> None:
    """Before it belongs a proxy that speaks TLS."""
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:8000:8000"]


def test_sessions_ports_are_published_on_the_gateways_own_network() -> None:
    network = read(NEEDED)["networks"]["front"]["ipam"]["config"][0]
    assert network["gateway"] == SERVICES["gateway"]["environment"]["PUBLISH_ADDRESS"]
    assert network["subnet"].startswith(network["gateway"].rpartition(".")[0])


def test_a_stop_leaves_time_for_the_whole_drain() -> None:
    most = ServerSettings().drain_seconds + SERVER_SECONDS + CLOSE_SECONDS + RUNNER_SECONDS
    assert seconds(SERVICES["gateway"]["stop_grace_period"]) > most


def test_the_gateway_starts_on_a_schema_that_it_could_not_change() -> None:
    """Who takes the gateway over must not be able to rewrite the log."""
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["gateway"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert (SERVICES["migrate"]["networks"], SERVICES["migrate"]["restart"]) == (["database"], "no")
    assert NEEDED["POSTGRES_PASSWORD"] in SERVICES["migrate"]["environment"]["DB_ADMIN_URL"]
    gateway = SERVICES["gateway"]["environment"]
    assert (gateway["DB_ADMIN_URL"], gateway["POSTGRES_PASSWORD"]) == ("", ""), "whatever .env holds"


def test_image_and_compose_say_the_same() -> None:
    gateway = SERVICES["gateway"]
    more = gateway_image._more(RELEASE)
    assert gateway["image"] == f"session-gateway/gateway:{RELEASE}"
    assert gateway["user"] == f"{gateway_image.USER}:{gateway_image.USER}"
    assert gateway["healthcheck"]["test"] == more["Healthcheck"]["Test"]
    targets = {mount["target"] for mount in gateway["volumes"]}
    assert targets == {gateway_image.DATA, gateway_image.CERTIFICATES}
    assert gateway["environment"]["GATEWAY_DATA_DIR"] == gateway_image.DATA


def test_compose_takes_the_file(tmp_path: Path) -> None:
    """Its own schema, and the same services as we read."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("NOT TESTED: docker-compose is not installed (Debian: docker-compose)")
    shutil.copy(FILE, tmp_path / "compose.yml")
    shutil.copy(FILE.parent / ".env.example", tmp_path / ".env")
    environment = {**NEEDED, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [program, "--file", str(tmp_path / "compose.yml"), "config"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name, service in SERVICES.items():
        assert f"\n  {name}:\n" in done.stdout
        assert f"    image: {service['image']}\n" in done.stdout
        assert f"    user: {service['user']}\n" in done.stdout
    for name in SERVICES["gateway"]["environment"]:
        assert f"      {name}: " in done.stdout


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("10", 10),
        ('"10"', "10"),
        ("[a, b]", ["a", "b"]),
        ("{a: b, c: 3}", {"a": "b", "c": 3}),
        ("{}", {}),
        ("/tmp:rw,size=1m", "/tmp:rw,size=1m"),
    ],
)
def test_a_value_is_read(text: str, value: object) -> None:
    assert scalar(text) == value


@pytest.mark.parametrize("text", ["&anchor", "*alias", "| ", "!tag x", "a: b", '"open', "@x"])
def test_what_is_not_in_our_part_of_yaml_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not in our part"):
        scalar(text)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2\n", "a:\n", "a: 1\n    b: 2\n", "just text\n", "- a\n", "a:\n  b: 1\n c: 2\n"]
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yml").write_text(text)
    with pytest.raises(ValueError):
        read({}, tmp_path / "c.yml")


def test_variables_have_their_defaults() -> None:
    assert interpolate("${A:-b}:${C:-d}", {"C": "x"}) == "b:x"
    assert variables()["DB_PASSWORD"] is None
    assert variables()["LISTEN"] == "127.0.0.1:8000"
