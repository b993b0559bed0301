"""Every departure from what was asked is named; what daemons of other releases say otherwise is none."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from docker.readback import breaches, cannot_give, daemon_departures, departures, network_departures, read_back
from docker.service import Volume
from docker.settings import DockerSettings
from docker.spec import container_body, network_body

SETTINGS = DockerSettings(container_memory_limit="64m", container_tmp_size="8m", container_cpu_quota=50_000)
LABELS = {"session-gateway.session": "s1"}
# What dockerd 20.10 answers beside what it was asked (cgroup v1).
SAID_OF_NOTHING: Mapping[str, Any] = {
    **dict.fromkeys(("Binds", "VolumesFrom", "Links", "CapAdd", "GroupAdd", "Devices", "DeviceRequests")),
    **dict.fromkeys(("PidMode", "UTSMode", "UsernsMode", "CgroupParent"), ""),
    **dict.fromkeys(("OomKillDisable", "PublishAllPorts", "AutoRemove"), False),
    "NanoCpus": 0,
    "MaskedPaths": ["/proc/asound", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
}


def answer() -> dict[str, Any]:
    """A running container as a daemon shows it that did all that was asked."""
    volumes = (Volume("v", "/workspace", {}),)
    body = container_body(SETTINGS, image="i", environment={}, labels=LABELS, volumes=volumes, port=4096)
    host = body.pop("HostConfig")
    return copy.deepcopy(
        {
            "Config": body,
            "HostConfig": host | SAID_OF_NOTHING,
            "AppArmorProfile": "docker-default",
            "Mounts": [{"Type": "volume", "Source": "/var/lib/docker/volumes/v/_data", "Destination": "/workspace"}],
            "NetworkSettings": {
                "Networks": {SETTINGS.session_network: {}},
                "Ports": {"4096/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]},
            },
        }
    )


def found(said: Mapping[str, Any]) -> list[str]:
    return departures(said, SETTINGS, labels=LABELS)


def test_what_was_asked_is_no_departure() -> None:
    assert found(answer()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Memory", 0),
        ("MemorySwap", -1),  # what a daemon makes of it whose kernel does not account for swap
        ("CpuQuota", 0),
        ("CpuPeriod", 0),
        ("PidsLimit", None),
        ("PidsLimit", 0),
        ("ShmSize", 1 << 30),
        ("OomScoreAdj", -500),
        ("OomKillDisable", True),
        ("Ulimits", None),
        ("LogConfig", {"Type": "json-file", "Config": {}}),
        ("CapDrop", None),
        ("CapDrop", ["CAP_NET_RAW"]),
        ("CapAdd", ["SYS_ADMIN"]),
        ("SecurityOpt", None),
        ("SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
        ("SecurityOpt", ["no-new-privileges:true", "apparmor=unconfined"]),
        ("SecurityOpt", ["no-new-privileges:true", "label=disable"]),
        ("SecurityOpt", ["no-new-privileges:false"]),
        ("ReadonlyRootfs", False),
        ("Tmpfs", {"/tmp": "rw,exec"}),
        ("Tmpfs", None),
        ("Privileged", True),
        ("IpcMode", "host"),
        ("CgroupnsMode", "host"),
        ("PidMode", "host"),
        ("UTSMode", "host"),
        ("UsernsMode", "host"),
        ("NetworkMode", "host"),
        ("Init", None),
        ("RestartPolicy", {"Name": "always", "MaximumRetryCount": 0}),
        ("Devices", [{"PathOnHost": "/dev/kvm"}]),
        ("DeviceRequests", [{"Driver": "nvidia"}]),
        ("DeviceCgroupRules", ["c 1:3 rwm"]),
        ("Binds", ["/etc:/etc"]),
        ("VolumesFrom", ["other"]),
        ("MaskedPaths", []),
        ("ReadonlyPaths", None),
        ("PublishAllPorts", True),
    ],
)
def test_each_field_that_differs_is_named(field: str, value: object) -> None:
    said = answer()
    said["HostConfig"][field] = value
    clauses = found(said)
    assert clauses and all(clause.startswith(field) for clause in clauses)


def test_a_daemon_that_leaves_everything_out_is_told_everything() -> None:
    """The empty answer of something that is no daemon passes nothing."""
    clauses = " ".join(found({}))
    for word in (
        "User",
        "Memory",
        "PidsLimit",
        "CapDrop",
        "no-new-privileges",
        "ReadonlyRootfs",
        "Tmpfs",
        "MaskedPaths",
    ):
        assert word in clauses


def test_root_is_named() -> None:
    said = answer()
    said["Config"]["User"] = ""
    assert found(said) == ["User is '', not '1000:1000'"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Privileged", True),
        ("CapAdd", ["SYS_ADMIN"]),
        ("CapDrop", None),
        ("GroupAdd", ["0"]),
        ("Devices", [{"PathOnHost": "/dev/kvm"}]),
        ("DeviceRequests", [{"Driver": "nvidia"}]),
        ("DeviceCgroupRules", ["c 1:3 rwm"]),
        ("Binds", ["/etc:/etc"]),
        ("VolumesFrom", ["other"]),
        ("SecurityOpt", None),
        ("SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
        ("MaskedPaths", []),
        ("ReadonlyPaths", None),
        *((key, "host") for key in ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode")),
        ("PidMode", "container:other"),
    ],
)
def test_power_that_no_session_was_given_is_a_breach(field: str, value: object) -> None:
    said = answer()
    said["HostConfig"][field] = value
    (clause,) = breaches(said, SETTINGS)
    assert clause.startswith(field)
    told = read_back(said, SETTINGS)
    assert told["breaches"] == (clause,) and clause not in told["departures"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Memory", 0),
        ("PidsLimit", None),
        ("CpuQuota", 0),
        ("Tmpfs", None),
        ("ReadonlyRootfs", False),
        ("OomScoreAdj", 0),
        ("Ulimits", None),
        ("Init", None),
        ("LogConfig", {"Type": "json-file", "Config": {}}),
        ("RestartPolicy", {"Name": "always", "MaximumRetryCount": 0}),
        ("NetworkMode", "former"),
        ("IpcMode", "shareable"),
        ("MaskedPaths", ["/proc/kcore"]),
    ],
)
def test_what_an_earlier_release_or_other_settings_made_is_none(field: str, value: object) -> None:
    said = answer()
    said["HostConfig"][field] = value
    told = read_back(said, SETTINGS)
    assert told["breaches"] == () and all(clause.startswith(field) for clause in told["departures"])
    assert told["departures"]


@pytest.mark.parametrize("user", ["", "0", "0:0", "root", "00:1000"])
def test_root_is_a_breach_and_another_user_is_none(user: str) -> None:
    said = answer()
    said["Config"]["User"] = user
    assert breaches(said, SETTINGS) == [f"User is {user!r}"]
    said["Config"]["User"] = "1001"
    assert breaches(said, SETTINGS) == []


@pytest.mark.parametrize(
    ("asked", "done", "found"),
    [
        ("127.0.0.1", "0.0.0.0", ["it is published on 0.0.0.0"]),
        ("127.0.0.1", "::", ["it is published on ::"]),
        ("127.0.0.1", "10.0.0.5", ["it is published on 10.0.0.5"]),
        ("", "", ["it is published on every address"]),
        ("10.0.0.5", "10.0.0.5", []),  # PUBLISH_ADDRESS was another, or found otherwise
    ],
)
def test_a_port_that_is_published_elsewhere_is_a_breach(asked: str, done: str, found: list[str]) -> None:
    said = answer()
    said["HostConfig"]["PortBindings"]["4096/tcp"][0]["HostIp"] = asked
    said["NetworkSettings"]["Ports"]["4096/tcp"][0]["HostIp"] = done
    assert breaches(said, SETTINGS) == found


def test_a_folder_of_the_host_is_a_breach_unless_its_root_holds_it() -> None:
    said, rooted = answer(), DockerSettings(host_dir_root="/srv/work")
    for source, strange in (("/srv/work/anna", []), ("/srv/workshop", [1]), ("/srv/work/../x", [1]), ("/etc", [1])):
        said["Mounts"] = [{"Type": "bind", "Source": source, "Destination": "/workspace"}]
        assert len(breaches(said, rooted)) == len(strange)
        assert breaches(said, SETTINGS), "without a root there is none"


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
@pytest.mark.parametrize("place", ["asked", "done"])
def test_a_port_on_another_address_is_named(host: str, place: str) -> None:
    said = answer()
    where = said["HostConfig"]["PortBindings"] if place == "asked" else said["NetworkSettings"]["Ports"]
    where["4096/tcp"][0]["HostIp"] = host
    (clause,) = found(said)
    assert clause == f"port 4096/tcp is published on {host or 'every address'}, not on 127.0.0.1"


def test_a_second_network_is_named() -> None:
    said = answer()
    said["NetworkSettings"]["Networks"]["bridge"] = {}
    assert found(said) == ["it is in the network bridge too"]


def test_a_piece_of_the_host_is_named_unless_it_was_given() -> None:
    """Also the folder in which the daemon's socket lies, and the socket."""
    said = answer()
    said["Mounts"].append({"Type": "bind", "Source": "/run", "Destination": "/x"})
    assert found(said) == ["/run of the host is mounted at /x"]
    assert departures(said, SETTINGS, labels=LABELS, folders=["/run"]) == []


def test_a_missing_label_is_named() -> None:
    said = answer()
    said["Config"]["Labels"] = None
    assert found(said) == ["the label session-gateway.session is missing"]


def test_an_unconfined_profile_is_named_and_none_is_not() -> None:
    """A created container, and one on a host without AppArmor, has none."""
    said = answer()
    for profile, clauses in (("unconfined", ["AppArmorProfile is unconfined"]), ("", [])):
        said["AppArmorProfile"] = profile
        assert found(said) == clauses


def test_other_releases_words_for_the_same_are_no_departure() -> None:
    """cgroup v2 has no OomKillDisable; newer daemons write capabilities out, hide more, and add limits of their own."""
    said = answer()
    host = said["HostConfig"]
    del host["DeviceRequests"], host["CgroupParent"]
    host["OomKillDisable"] = None
    host["CapDrop"] = ["CAP_ALL"]
    host["SecurityOpt"] = ["no-new-privileges", "label=type:container_t"]
    host["MaskedPaths"].append("/sys/devices/virtual/powercap")
    host["Ulimits"].append({"Name": "nofile", "Soft": 1024, "Hard": 4096})
    assert found(said) == []


def test_a_created_container_has_no_ports_yet() -> None:
    said = answer()
    said["NetworkSettings"]["Ports"] = {}
    assert found(said) == []


def test_a_network_that_lets_containers_talk_is_named() -> None:
    """Somebody may have made one of that name by hand."""
    made = network_body(SETTINGS)
    assert network_departures(made, SETTINGS) == []
    assert len(network_departures(made | {"Options": {}}, SETTINGS)) == 1
    assert len(network_departures(made | {"Options": None, "Driver": "macvlan"}, SETTINGS)) == 2


def test_a_network_of_an_older_release_with_another_interface_serves() -> None:
    made = network_body(SETTINGS)
    older = {key: value for key, value in made["Options"].items() if not key.endswith("bridge.name")}
    assert network_departures(made | {"Options": older}, SETTINGS) == []


INFO = {"SecurityOptions": ["name=seccomp,profile=default"], "MemoryLimit": True, "SwapLimit": True, "NCPU": 2}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"SecurityOptions": ["name=apparmor"]}, "seccomp"),
        ({"SecurityOptions": None}, "seccomp"),
        ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, "unconfined"),
        ({"MemoryLimit": False}, "MemoryLimit"),
        ({"SwapLimit": False}, "SwapLimit"),
        ({"PidsLimit": False}, "PidsLimit"),
    ],
)
def test_what_a_daemon_cannot_do_is_named(changes: dict[str, Any], word: str) -> None:
    assert daemon_departures(INFO) == []
    (clause,) = daemon_departures(INFO | changes)
    assert word in clause


def test_an_operators_own_filter_is_a_filter() -> None:
    assert daemon_departures(INFO | {"SecurityOptions": ["name=seccomp,profile=/etc/docker/seccomp.json"]}) == []


def test_a_quota_above_the_machines_cores_is_named() -> None:
    """It would look like a limit in every answer and hold nobody back."""
    assert cannot_give(INFO, SETTINGS) == []
    (sentence,) = cannot_give(INFO, DockerSettings(container_cpu_quota=400_000))
    assert "4 cores" in sentence and "has 2" in sentence
    assert cannot_give({}, DockerSettings(container_cpu_quota=400_000)) == []
