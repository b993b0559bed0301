"""What sessions may reach over the network, as lines for ``iptables-restore``. Pure, standard library only.

The rules stand in ``mangle PREROUTING``: a packet from a session's bridge passes there first, whether it is for this
machine or beyond it, with the address that the session asked for, before anything is translated. Nobody else fills
that table: neither a dockerd (of iptables or of nftables) nor ufw puts anything before or behind it, and a drop there
is final. What is not dropped goes on to all other rules. Lines are written as ``iptables-save`` prints them, so that
what is in the kernel can be compared.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

BRIDGE_OPTION: Final = "com.docker.network.bridge.name"
CHAIN_PREFIX: Final = "SESSIONS-"
LONGEST_INTERFACE: Final = 15  # characters, IFNAMSIZ without its end

# Where nobody on the internet is (RFC 6890 and its IANA registries): this machine's networks, link-local services such
# as a cloud's metadata, carrier-grade NAT, multicast; and forms of IPv6 that lead back into IPv4.
CLOSED: Final = {
    4: (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ),
    6: (
        "::/96",
        "::ffff:0.0.0.0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ),
}
_NEIGHBOURS: Final = (135, 136)  # without which no IPv6 address is found


class Target(NamedTuple):
    """One port of one address."""

    address: str
    port: int


class Policy(NamedTuple):
    """What the containers on one bridge may reach. ``allow`` and ``resolvers`` come before everything closed."""

    bridge: str
    allow: tuple[Target, ...] = ()
    resolvers: tuple[str, ...] = ()  # name servers: port 53 of each
    deny: tuple[str, ...] = ()  # networks, beyond those that are always closed
    internet: bool = True


class Family(NamedTuple):
    """IPv4 or IPv6 and its programs."""

    version: int
    save: str
    restore: str


FAMILIES: Final = (
    Family(4, "iptables-save", "iptables-restore"),
    Family(6, "ip6tables-save", "ip6tables-restore"),
)


def bridge_name(network: str) -> str:
    """The interface of the network of that name: the name itself, or a short form where the kernel takes no more."""
    if len(network) <= LONGEST_INTERFACE:
        return network
    return f"{network[:4]}-{hashlib.sha256(network.encode()).hexdigest()[:10]}"


def chain(policy: Policy) -> str:
    """The chain of one bridge: several gateways may share a machine."""
    return CHAIN_PREFIX + policy.bridge


def jump(policy: Policy) -> str:
    """The rule that leads a bridge's packets into its chain."""
    return f"-A PREROUTING -i {policy.bridge} -j {chain(policy)}"


def rules(policy: Policy, version: int) -> list[str]:
    """The chain's rules, in order."""
    name = chain(policy)
    matches = [("-m conntrack --ctstate RELATED,ESTABLISHED", "RETURN")]
    if version == 6:
        matches += [(f"-p ipv6-icmp -m icmp6 --icmpv6-type {kind}", "RETURN") for kind in _NEIGHBOURS]
    for target in policy.allow:
        if _version(target.address) == version:
            matches.append((f"-d {_host(target.address)} -p tcp -m tcp --dport {target.port}", "RETURN"))
    for resolver in policy.resolvers:
        if _version(resolver) == version:
            matches += [(f"-d {_host(resolver)} -p {way} -m {way} --dport 53", "RETURN") for way in ("udp", "tcp")]
    matches.append(("-m addrtype --dst-type LOCAL", "DROP"))
    closed = [*CLOSED[version], *(network for network in policy.deny if _version(network) == version)]
    matches += [(f"-d {network}", "DROP") for network in closed]
    if not policy.internet:
        matches.append(("", "DROP"))
    return [" ".join(f"-A {name} {match} -j {end}".split()) for match, end in matches]


def to_apply(policy: Policy, version: int, saved: str) -> str:
    """What to give to ``iptables-restore --noflush``: all of it holds at one moment, or none. Empty: it holds already.

    ``saved`` is what ``iptables-save -t mangle`` prints.
    """
    if not departures(policy, version, saved):
        return ""
    own = [f"-D {line.removeprefix('-A ')}" for line in _lines(saved) if line == jump(policy)]
    first = f"-I PREROUTING 1 {jump(policy).removeprefix('-A PREROUTING ')}"
    # A chain that is named with a colon is made, or emptied.
    return _table([f":{chain(policy)} - [0:0]", *own, first, *rules(policy, version)])


def to_remove(policy: Policy, saved: str) -> str:
    """The same without the rules, for ``--noflush``; empty when there are none."""
    name, lines = chain(policy), _lines(saved)
    jumps = [f"-D {line.removeprefix('-A ')}" for line in lines if line.endswith(f" -j {name}")]
    if not any(line.startswith(f":{name} ") for line in lines):
        return ""
    return _table([f":{name} - [0:0]", *jumps, f"-X {name}"])


def departures(policy: Policy, version: int, saved: str) -> list[str]:
    """In what the kernel's rules are not those of ``policy``, a clause each; empty: in nothing."""
    lines, name = _lines(saved), chain(policy)
    present = [line for line in lines if line.startswith(f"-A {name} ")]
    before = _before([line for line in lines if line.startswith("-A PREROUTING ")], jump(policy))
    if before is None:
        return [f"nothing leads IPv{version} packets from {policy.bridge} into {name}"]
    found = []
    if [line for line in before if f" -j {CHAIN_PREFIX}" not in line]:
        found.append(f"other rules of IPv{version} come first in mangle PREROUTING")
    if present != rules(policy, version):
        found.append(f"the IPv{version} rules in {name} are others")
    return found


def network(text: str) -> str:
    """``text`` as iptables-save prints it. Raises ValueError with a sentence."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{text} is no network such as 10.1.0.0/16: {error}.") from error


def host_and_port(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[ADDRESS]:PORT``. Raises ValueError with a sentence."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or (":" in host and "[" not in text) or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text} is not HOST:PORT, such as 10.0.0.5:11434 or [fd00::5]:11434.")
    if not 0 < int(port) < 65536:
        raise ValueError(f"{text} has a port that is no port number.")
    return host, int(port)


def _before(lines: Sequence[str], wanted: str) -> list[str] | None:
    """What stands before the line; None when it is not there."""
    return list(lines[: lines.index(wanted)]) if wanted in lines else None


def _lines(saved: str) -> list[str]:
    return [line.strip() for line in saved.splitlines() if line.strip()]


def _table(lines: Sequence[str]) -> str:
    return "\n".join(["*mangle", *lines, "COMMIT", ""])


def _version(address: str) -> int:
    return ipaddress.ip_network(address).version


def _host(address: str) -> str:
    """A single address is printed with its full length."""
    return str(ipaddress.ip_network(address))
