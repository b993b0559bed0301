"""The rules: what comes first, what an apply changes, what departs. That they hold is shown in test_firewall*.py."""

import pytest

from docker import firewall_rules
from docker.firewall_rules import CLOSED, Policy, Target, departures, rules, to_apply, to_remove

POLICY = Policy("session-gateway")
EMPTY = "*mangle\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"


def saved(policy: Policy, version: int, *before: str) -> str:
    """What iptables-save prints once the rules are there."""
    chain = f":SESSIONS-{policy.bridge} - [0:0]"
    jump = f"-A PREROUTING -i {policy.bridge} -j SESSIONS-{policy.bridge}"
    return "\n".join(["*mangle", chain, *before, jump, *rules(policy, version), "COMMIT"])


def test_what_is_allowed_comes_before_what_is_closed() -> None:
    """A model in a closed network is reached on its port, and nothing else there."""
    policy = Policy("b", allow=(Target("10.0.0.5", 80), Target("fd00::5", 81)), resolvers=("10.0.0.2",))
    lines = rules(policy, 4)
    assert lines[0].endswith("--ctstate RELATED,ESTABLISHED -j RETURN"), "replies of published ports"
    assert lines[1] == "-A SESSIONS-b -d 10.0.0.5/32 -p tcp -m tcp --dport 80 -j RETURN"
    assert [line.split()[-3] for line in lines[2:4]] == ["53", "53"]
    assert lines[4] == "-A SESSIONS-b -m addrtype --dst-type LOCAL -j DROP", "this machine, by any of its addresses"
    assert all(line.endswith("-j DROP") for line in lines[4:])
    assert "-A SESSIONS-b -d fd00::5/128 -p tcp -m tcp --dport 81 -j RETURN" in rules(policy, 6)


@pytest.mark.parametrize(
    ("version", "network"),
    [(4, "169.254.0.0/16"), (4, "10.0.0.0/8"), (4, "100.64.0.0/10"), (6, "fe80::/10"), (6, "fc00::/7"), (6, "::/96")],
)
def test_networks_where_nobody_on_the_internet_is_are_closed(version: int, network: str) -> None:
    assert f"-A SESSIONS-session-gateway -d {network} -j DROP" in rules(POLICY, version)


def test_ranges_are_written_as_the_kernel_prints_them() -> None:
    """Else each check would find others."""
    assert [firewall_rules.network(each) for each in CLOSED[4]] == list(CLOSED[4])
    assert [firewall_rules.network(each) for each in CLOSED[6] if "." not in each] == [
        each for each in CLOSED[6] if "." not in each
    ]


def test_more_can_be_closed_and_the_internet_too() -> None:
    closed = rules(POLICY._replace(deny=("203.0.113.0/24",), internet=False), 4)
    assert closed[-2:] == [
        "-A SESSIONS-session-gateway -d 203.0.113.0/24 -j DROP",
        "-A SESSIONS-session-gateway -j DROP",
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_what_holds_is_not_applied_again(version: int) -> None:
    assert to_apply(POLICY, version, saved(POLICY, version)) == ""
    assert to_remove(POLICY, EMPTY) == ""


@pytest.mark.parametrize(
    ("there", "word"),
    [
        (EMPTY, "nothing leads"),
        (saved(POLICY, 4).replace("-d 10.0.0.0/8 -j DROP", "-d 10.0.0.0/8 -j RETURN"), "are others"),
        (saved(POLICY, 4, "-A PREROUTING -j ACCEPT"), "come first"),
    ],
)
def test_a_departure_is_named_and_mended(there: str, word: str) -> None:
    (clause,) = departures(POLICY, 4, there)
    assert word in clause
    text = to_apply(POLICY, 4, there)
    assert "-I PREROUTING 1 -i session-gateway -j SESSIONS-session-gateway\n" in text
    assert text.count("-D PREROUTING") == there.count("-j SESSIONS-session-gateway\n"), "the former is taken away"


def test_another_gateways_rules_are_no_departure() -> None:
    assert departures(POLICY, 4, saved(POLICY, 4, "-A PREROUTING -i other -j SESSIONS-other")) == []


@pytest.mark.parametrize("text", ["host", "host:", ":80", "host:0", "host:65536", "host:x", "fd00::5:80x", "fd00::5"])
def test_what_is_no_port_of_a_host_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|HOST:PORT"):
        firewall_rules.host_and_port(text)


def test_a_host_and_its_port_are_read() -> None:
    assert firewall_rules.host_and_port("[fd00::5]:80") == ("fd00::5", 80)
    assert firewall_rules.host_and_port("model.example:11434") == ("model.example", 11434)


@pytest.mark.parametrize("network", ["session-gateway", "n" * 16, "x" * 200])
def test_an_interface_name_fits_the_kernel(network: str) -> None:
    assert len(firewall_rules.bridge_name(network)) <= 15
    assert firewall_rules.bridge_name(network) != firewall_rules.bridge_name(network + "2")
