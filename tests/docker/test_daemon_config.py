"""What becomes of a daemon.json."""

import json
from typing import Any

import pytest

from docker.daemon_config import everywhere, listening, merge, where
from docker.daemon_setup import SHIPPED

OURS: dict[str, Any] = json.loads(SHIPPED.read_text())
SOCKET = ("fd://",)


def merged(existing: dict[str, Any], listen: str = "", sockets: tuple[str, ...] | None = ()) -> dict[str, Any]:
    found = merge(existing, OURS, listen=listen, sockets=sockets)
    assert found.contradictions == ()
    return found.config


def test_into_nothing_goes_what_is_shipped() -> None:
    assert merged({}) == OURS


def test_what_is_shipped_is_what_the_guide_had_without_what_makes_sessions_unreachable() -> None:
    """The seed's keys, but iptables and bridge (decision 32)."""
    assert {"live-restore": True, "userland-proxy": False, "no-new-privileges": True, "tlsverify": True}.items() <= (
        OURS.items()
    )
    assert {"iptables", "bridge"} & OURS.keys() == set()


def test_other_keys_stay_and_again_changes_nothing() -> None:
    foreign = {"data-root": "/srv/docker", "dns": ["10.0.0.2"], "log-driver": "journald"}
    once = merged(foreign, "10.0.0.5:2376", SOCKET)
    assert foreign.items() <= once.items()
    assert "log-opts" not in once, "they are json-file's, and journald refuses them"
    assert once["hosts"] == ["fd://", "tcp://10.0.0.5:2376"]
    assert merged(once, "", SOCKET) == merged(once, "10.0.0.5:2376", None) == once


@pytest.mark.parametrize(
    ("existing", "word"),
    [
        ({"live-restore": False}, "live-restore"),
        ({"icc": True}, "icc"),
        ({"tlscacert": "/etc/ssl/ca.pem"}, "tlscacert"),
        ({"iptables": False}, "iptables"),
        ({"ip-forward": False}, "ip-forward"),
        ({"hosts": ["tcp://0.0.0.0:2375"]}, "tcp://0.0.0.0:2375"),
    ],
)
def test_a_contradiction_is_told_by_its_key(existing: dict[str, Any], word: str) -> None:
    found = merge(existing, OURS, listen="10.0.0.5:2376", sockets=())
    (clause,) = found.contradictions
    assert word in clause
    assert "False" not in clause and "True" not in clause, "it is a JSON file"
    assert found.config == OURS | {"hosts": ["tcp://10.0.0.5:2376"]}


def test_without_a_socket_the_local_one_goes_and_is_told() -> None:
    found = merge({"hosts": ["fd://", "tcp://10.0.0.5:2376"]}, OURS, listen="", sockets=())
    assert found.config["hosts"] == ["tcp://10.0.0.5:2376"]
    assert ["fd://" in each for each in found.contradictions] == [True]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.5", "10.0.0.5:2376"),
        ("box:1", "box:1"),
        ("[fd00::5]", "[fd00::5]:2376"),
        ("[fd00::5]:9", "[fd00::5]:9"),
    ],
)
def test_an_address_is_completed(text: str, found: str) -> None:
    assert listening(text) == found


@pytest.mark.parametrize("text", ["10.0.0.5:0", "10.0.0.5:99999", "[fd00::5]:65536"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="1 to 65535"):
        listening(text)


@pytest.mark.parametrize("text", ["", ":2376", "10.0.0.5:", "10.0.0.5:x", "fd00::5"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ADDRESS"):
        listening(text)


@pytest.mark.parametrize(
    ("host", "address", "all_of_them"),
    [
        ("tcp://10.0.0.5:2376", ("10.0.0.5", 2376), False),
        ("tcp://0.0.0.0:9", ("127.0.0.1", 9), True),
        ("tcp://[::]:9", ("::1", 9), True),
        ("tcp://[fd00::5]:9", ("fd00::5", 9), False),
    ],
)
def test_where_a_client_finds_it(host: str, address: tuple[str, int], all_of_them: bool) -> None:
    config = {"hosts": ["fd://", host]}
    assert (where(config), everywhere(config)) == (address, all_of_them)
