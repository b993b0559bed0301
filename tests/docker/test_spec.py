"""The create body: every limit and every hardening measure, in the daemon's own words."""

from typing import Any

import pytest
from msgspec.structs import replace

from docker.errors import BadDockerSettings
from docker.service import Volume
from docker.settings import DockerSettings
from docker.spec import container_body, network_body


def body(settings: DockerSettings | None = None, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"image": "i", "environment": {}, "labels": {}, "volumes": (), "port": 4096} | changes
    return container_body(settings or DockerSettings(), **given)


def test_memory_has_no_swap_and_cpu_and_processes_are_bounded() -> None:
    settings = DockerSettings(container_memory_limit="64m", container_cpu_quota=50_000, container_pids_limit=20)
    host = body(settings)["HostConfig"]
    assert host["Memory"] == host["MemorySwap"] == 64 << 20
    assert (host["CpuQuota"], host["CpuPeriod"], host["PidsLimit"]) == (50_000, 100_000, 20)


def test_a_session_has_no_power_over_its_host() -> None:
    made = body()
    host = made["HostConfig"]
    assert made["User"] == "1000:1000"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert "Binds" not in host, "no path of the host is ever mounted"


def test_tmp_is_writable_executable_and_bounded() -> None:
    """OpenCode loads its terminal's library from /tmp; without exec its terminals answer a bare 500."""
    options = body(DockerSettings(container_tmp_size="8m"))["HostConfig"]["Tmpfs"]["/tmp"].split(",")
    assert {"rw", "exec", "nosuid", f"size={8 << 20}"} <= set(options)


def test_an_init_passes_signals_on() -> None:
    """As PID 1 OpenCode ignores SIGTERM: a stop took 10 s without an init, 0.3 s with one."""
    assert body()["HostConfig"]["Init"] is True


def test_the_gateway_alone_decides_about_restarts() -> None:
    assert body()["HostConfig"]["RestartPolicy"]["Name"] == "no"


def test_logs_are_bounded_in_units_of_1024() -> None:
    """As the setting says; the daemon would read 10m as ten million."""
    log = body()["HostConfig"]["LogConfig"]
    assert log == {"Type": "json-file", "Config": {"max-size": str(10 << 20), "max-file": "3"}}


def test_shared_memory_and_core_files_are_bounded_and_a_session_is_the_first_to_go() -> None:
    """Whatever the daemon's own defaults are."""
    host = body()["HostConfig"]
    assert host["ShmSize"] == 64 << 20
    assert host["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    assert host["OomScoreAdj"] > 0


def test_every_namespace_is_the_containers_own() -> None:
    """Those not named here are private by default."""
    host = body()["HostConfig"]
    assert (host["IpcMode"], host["CgroupnsMode"]) == ("private", "private")
    assert {"PidMode", "UTSMode", "UsernsMode"} & host.keys() == set()


def test_the_port_is_published_on_loopback_with_a_number_of_the_daemons_choice() -> None:
    made = body(port=8080)
    assert made["ExposedPorts"] == {"8080/tcp": {}}
    assert made["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}


def test_containers_of_the_session_network_cannot_reach_each_other() -> None:
    assert network_body(DockerSettings())["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    assert body()["HostConfig"]["NetworkMode"] == network_body(DockerSettings())["Name"]


@pytest.mark.parametrize(
    ("changes", "interface"),
    [
        ({}, "session-gateway"),
        ({"session_network": "a-longer-name-than-15"}, "a-lo-35146a3dc2"),
        ({"session_bridge": "gw0"}, "gw0"),
    ],
)
def test_the_firewall_can_name_the_interface_of_the_session_network(changes: dict[str, str], interface: str) -> None:
    """By itself a daemon calls it after the network's id, which nobody knows before."""
    options = network_body(replace(DockerSettings(), **changes))["Options"]
    assert options["com.docker.network.bridge.name"] == interface


def test_a_volume_takes_the_owner_of_the_images_folder() -> None:
    """NoCopy would leave a fresh volume to root, and uid 1000 could not write its conversations."""
    mount = body(volumes=(Volume("v", "/home/app", {"a": "b"}),))["HostConfig"]["Mounts"][0]
    assert mount == {
        "Type": "volume",
        "Source": "v",
        "Target": "/home/app",
        "VolumeOptions": {"NoCopy": False, "Labels": {"a": "b"}},
    }


def test_environment_labels_and_command_are_passed_on() -> None:
    made = body(environment={"B": "2", "A": "1=1"}, labels={"l": "v"}, command=("sh", "-c", "true"))
    assert (made["Env"], made["Labels"], made["Cmd"]) == (["A=1=1", "B=2"], {"l": "v"}, ["sh", "-c", "true"])
    assert "Cmd" not in body(), "without a command the image's own is run"


def test_a_limit_that_cannot_be_read_makes_no_container() -> None:
    with pytest.raises(BadDockerSettings, match="lots"):
        body(DockerSettings(container_memory_limit="lots"))
