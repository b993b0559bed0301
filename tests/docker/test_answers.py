"""The daemon's answers, cut down to what is read (recorded from dockerd 20.10)."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from docker.answers import clock_ns, container_event, container_info, image_of
from docker.service import Address, ContainerState

NEVER = "0001-01-01T00:00:00Z"


def answer(status: str = "running", **state: Any) -> dict[str, Any]:
    given = {"ExitCode": 0, "StartedAt": NEVER, "FinishedAt": NEVER, "OOMKilled": False, "Pid": 7} | state
    binding = {"HostIp": "127.0.0.1", "HostPort": "32768"}
    return {
        "Id": "ab",
        "Name": "/gw-1",
        "Created": "2026-01-02T03:04:05.123456789Z",
        "Image": "sha256:cd",
        "State": {"Status": status} | given,
        "Config": {"Image": "echo:1", "Labels": {"a": "b"}},
        "NetworkSettings": {"Ports": {"4096/tcp": [binding]}},
    }


def test_a_running_container() -> None:
    info = container_info(answer(StartedAt="2026-01-02T03:04:06Z"), host="")
    assert (info.id, info.name, info.image, info.labels) == ("ab", "gw-1", "echo:1", {"a": "b"})
    assert info.state is ContainerState.RUNNING
    assert info.address == Address("127.0.0.1", 32768)
    assert info.created_at == datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)
    assert info.started_at == datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert (info.finished_at, info.exit_code) == (None, None)
    assert image_of(answer()) == "sha256:cd"


def test_an_ended_container_has_an_end_and_no_address() -> None:
    """The daemon keeps nothing of a port after the end, and a stale one would reach somebody else's container."""
    info = container_info(answer("exited", ExitCode=137, OOMKilled=True, FinishedAt="2026-01-02T03:05:00Z"), host="h")
    assert (info.address, info.exit_code, info.oom_killed) == (None, 137, True)
    assert info.finished_at == datetime(2026, 1, 2, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize(("code", "killed"), [(137, True), (0, False), (1, False)])
def test_a_childs_kill_is_not_the_containers_end(code: int, killed: bool) -> None:
    """The daemon's mark stays: one whose child was killed and which ended well later has both."""
    ended = container_info(answer("exited", ExitCode=code, OOMKilled=True, FinishedAt="2026-01-02T03:05:00Z"), host="")
    assert ended.oom_killed is killed
    assert container_info(answer(OOMKilled=True), host="").oom_killed, "while it runs, the mark is all that is known"


def test_a_restarted_container_has_not_ended() -> None:
    """The daemon still shows the end of the run before."""
    info = container_info(answer(ExitCode=143, FinishedAt="2026-01-02T03:05:00Z"), host="")
    assert (info.finished_at, info.exit_code) == (None, None)


def test_the_year_one_means_never() -> None:
    assert container_info(answer("created"), host="").started_at is None


@pytest.mark.parametrize(
    ("published", "host", "reached"),
    [("10.0.0.1", "", "10.0.0.1"), ("0.0.0.0", "", "127.0.0.1"), ("", "", "127.0.0.1"), ("127.0.0.1", "box", "box")],
)
def test_the_address_is_where_we_reach_the_port(published: str, host: str, reached: str) -> None:
    said = answer()
    said["NetworkSettings"]["Ports"]["4096/tcp"][0]["HostIp"] = published
    assert container_info(said, host=host).address == Address(reached, 32768)


@pytest.mark.parametrize(
    ("published", "host", "reached"),
    [
        ("127.0.0.1", "", "172.17.0.1"),
        ("0.0.0.0", "", "172.17.0.1"),
        ("::1", "", "172.17.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),  # there and nowhere else, whatever was found out
        ("127.0.0.1", "box", "box"),  # HOST_IP overrides
    ],
)
def test_the_loopback_of_the_daemons_machine_is_called_otherwise_from_a_container(
    published: str, host: str, reached: str
) -> None:
    said = answer()
    said["NetworkSettings"]["Ports"]["4096/tcp"][0]["HostIp"] = published
    assert container_info(said, host=host, here="172.17.0.1").address == Address(reached, 32768)


def test_without_labels_or_ports_there_are_none() -> None:
    said = answer()
    said["Config"]["Labels"] = None
    said["NetworkSettings"]["Ports"] = {"4096/tcp": None}
    info = container_info(said, host="")
    assert (info.labels, info.address) == ({}, None)


def test_an_answer_of_another_shape_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        container_info({"message": "hello"}, host="")


def event(action: str, **attributes: str) -> dict[str, Any]:
    return {"Action": action, "Actor": {"ID": "ab", "Attributes": attributes}, "timeNano": 17, "Type": "container"}


def test_a_death_carries_its_exit_code_and_the_containers_labels() -> None:
    said = container_event(event("die", exitCode="3", name="gw-1", image="i", execDuration="5", a="b"))
    assert said is not None
    assert (said.container_id, said.name, said.kind, said.at_ns, said.exit_code) == ("ab", "gw-1", "die", 17, 3)
    assert said.labels == {"a": "b"}


def test_an_oom_kill_has_no_exit_code_yet() -> None:
    said = container_event(event("oom", name="gw-1"))
    assert said is not None
    assert (said.kind, said.exit_code) == ("oom", None)


def test_other_events_are_none() -> None:
    assert container_event(event("start", name="gw-1")) is None


def test_the_daemons_clock_is_read_to_the_microsecond() -> None:
    assert clock_ns({"SystemTime": "2026-12-01T12:00:00.123456789Z", "NCPU": 2}) == 1_796_126_400_123_456_000
    assert clock_ns({"SystemTime": "2026-12-01T14:00:00+02:00"}) == 1_796_126_400_000_000_000
