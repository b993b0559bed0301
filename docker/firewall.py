"""Applies, checks and removes what sessions may reach, on the daemon's machine. ``setup-session-firewall.sh``.

Root runs it there, with the Python of the system: standard library only, and nothing of ours but ``firewall_rules``.
All rules of IPv4 come into force at one moment, then all of IPv6; doing it again changes nothing. They hold until the
machine restarts, whatever Docker does meanwhile; with systemd a unit is installed that applies them before Docker then.
"""

import argparse
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from docker import firewall_rules
from docker.firewall_rules import FAMILIES, Family, Policy, Target

DONE: Final = 0
WRONG_USE: Final = 2
NOT_IN_FORCE: Final = 10
CANNOT: Final = 11
UNRESOLVED: Final = 12

LIBRARY: Final = "usr/local/lib/session-gateway"
_UNITS: Final = "etc/systemd/system"
_SYSTEMD: Final = Path("/run/systemd/system")


class CannotFilter(Exception):
    """The machine does not let us. One sentence."""


class Wanted(NamedTuple):
    """The policy, and the names in it that have no address now."""

    policy: Policy
    unresolved: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """The command; answers its exit code."""
    parser = _parser(environment)
    chosen = parser.parse_args(arguments)
    try:
        chosen.allow += _model(environment)
        wanted = _wanted(chosen)
    except ValueError as error:
        parser.error(str(error))
    try:
        if chosen.check:
            return _check(wanted)
        if chosen.remove:
            return _remove(wanted.policy, chosen)
        return _apply(wanted, chosen)
    except (CannotFilter, OSError) as error:
        print(error, file=sys.stderr)
        return CANNOT


def resolvers(root: Path) -> tuple[str, ...]:
    """The name servers that containers' questions go to: Docker asks them from the container's side of the bridge.

    Those on the loopback it asks from the machine's own side, so they need no rule.
    """
    try:
        configured = json.loads((root / "etc/docker/daemon.json").read_text()).get("dns") or []
    except (OSError, ValueError, AttributeError):
        configured = []
    if configured:
        return tuple(str(each) for each in configured)
    found = _nameservers(root / "etc/resolv.conf")
    if found == ("127.0.0.53",):  # systemd-resolved: Docker reads the file behind it
        found = _nameservers(root / "run/systemd/resolve/resolv.conf")
    return tuple(each for each in found if not each.startswith("127.") and each != "::1")


def resolved(targets: Iterable[tuple[str, int]]) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Every address of every target, and the names that have none."""
    found, unresolved = list[Target](), list[str]()
    for host, port in targets:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            unresolved.append(host)
            continue
        found += [Target(str(answer[4][0]).partition("%")[0], port) for answer in answers]
    return tuple(dict.fromkeys(found)), tuple(unresolved)


def unit(bridge: str, options: Sequence[str]) -> str:
    """The systemd unit that applies the rules at the machine's start, before Docker starts anything."""
    return f"""\
[Unit]
Description=What the sessions on {bridge} may reach
Wants=network-online.target
After=network-online.target
Before=docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PYTHONPATH=/{LIBRARY}
ExecStart={_python()} -P -m docker.firewall --no-unit {shlex.join(options).replace("%", "%%")}
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
"""


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup-session-firewall.sh",
        description="Closes to sessions: this machine, its networks, link-local services. Open: the internet.",
        epilog="SESSION_NETWORK, SESSION_BRIDGE and MODEL_BASE_URL are read from the environment, as by the gateway. "
        "Exit codes: 0 in force, 2 wrong use, 10 not in force (--check), 11 cannot, 12 a name has no address yet.",
    )
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")
    doing.add_argument("--check", action="store_true", help="say whether the rules are in force; 10 when not")
    doing.add_argument("--remove", action="store_true", help="take the rules and the unit away")
    parser.add_argument("--network", default=environment.get("SESSION_NETWORK") or "session-gateway")
    parser.add_argument("--bridge", default=environment.get("SESSION_BRIDGE") or "", help="interface of the network")
    parser.add_argument("--allow", action="append", default=[], metavar="HOST:PORT", help="a model in a closed network")
    parser.add_argument("--deny", action="append", default=[], metavar="NETWORK", help="close more: 203.0.113.0/24")
    parser.add_argument("--dns", action="append", default=[], metavar="ADDRESS", help="default: this machine's")
    parser.add_argument(
        "--closed", action="store_true", help="close the internet too, but for --allow and name servers"
    )
    parser.add_argument("--no-unit", action="store_true", help="install no systemd unit")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where files are read and written")
    return parser


def _model(environment: Mapping[str, str]) -> list[str]:
    """The configured model's HOST:PORT. Raises ValueError with a sentence."""
    address = environment.get("MODEL_BASE_URL")
    if not address:
        return []
    parts = urlsplit(address)
    if not parts.hostname:
        raise ValueError("MODEL_BASE_URL has no host.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return [f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"]


def _wanted(chosen: argparse.Namespace) -> Wanted:
    """Raises ValueError with a sentence."""
    allow, unresolved = resolved(firewall_rules.host_and_port(each) for each in chosen.allow)
    bridge = chosen.bridge or firewall_rules.bridge_name(chosen.network)
    if not bridge or len(bridge) > firewall_rules.LONGEST_INTERFACE or "/" in bridge or bridge.split() != [bridge]:
        raise ValueError(f"{bridge!r} is no name of an interface.")
    servers = chosen.dns or resolvers(chosen.root)
    policy = Policy(
        bridge=bridge,
        allow=allow,
        resolvers=tuple(firewall_rules.network(each).rpartition("/")[0] for each in servers),
        deny=tuple(firewall_rules.network(each) for each in chosen.deny),
        internet=not chosen.closed,
    )
    return Wanted(policy, unresolved)


def _apply(wanted: Wanted, chosen: argparse.Namespace) -> int:
    policy, changed = wanted.policy, False
    for family in _families():
        text = firewall_rules.to_apply(policy, family.version, _saved(family))
        changed |= bool(text)
        if text and chosen.dry_run:
            print(f"would be given to {family.restore} --noflush:\n{text}")
        elif text:
            _run([family.restore, "--noflush"], text)
    with_unit = not chosen.no_unit and _has_systemd(chosen.root)
    for path, content in (_files(wanted, chosen) if with_unit else {}).items():
        if not path.exists() or path.read_bytes() != content:
            changed = True
            _put(path, content, dry=chosen.dry_run)
    if changed and with_unit:
        _systemctl(["daemon-reload"], ["enable", _unit_name(policy)], chosen)
    if not changed:
        print(f"Nothing to do: what sessions on {policy.bridge} may reach is in force.")
    elif not chosen.dry_run:
        print(f"In force: sessions on {policy.bridge} reach {_described(policy)}. Undo with --remove.")
        if not with_unit:
            print("After a restart of this machine it is to be applied again.")
    return _told_unresolved(wanted)


def _remove(policy: Policy, chosen: argparse.Namespace) -> int:
    changed = False
    for family in _families():
        if text := firewall_rules.to_remove(policy, _saved(family)):
            changed = True
            _run([family.restore, "--noflush"], text)
    path = chosen.root / _UNITS / _unit_name(policy)
    if path.exists():
        changed = True
        _systemctl(["disable", path.name], ["daemon-reload"], chosen)
        path.unlink()
    print(
        f"Removed: sessions on {policy.bridge} reach whatever this machine reaches."
        if changed
        else f"Nothing to do: there are no rules for {policy.bridge}."
    )
    return DONE


def _check(wanted: Wanted) -> int:
    policy = wanted.policy
    found = [
        clause for family in _families() for clause in firewall_rules.departures(policy, family.version, _saved(family))
    ]
    if found:
        print(f"NOT in force: {'; '.join(found)}. Run setup-session-firewall.sh with the same options.")
        return NOT_IN_FORCE
    print(f"In force: sessions on {policy.bridge} reach {_described(policy)}.")
    if not Path(f"/sys/class/net/{policy.bridge}").exists():
        print(
            f"There is no interface {policy.bridge} yet: the first session makes it. If sessions run, their network is "
            "of an older release, or has another name: they are not held."
        )
    return _told_unresolved(wanted)


def _described(policy: Policy) -> str:
    allowed = [f"{target.address} port {target.port}" for target in policy.allow]
    return ", ".join([*allowed, "name servers", *(["the internet"] if policy.internet else [])]) + ", nothing else"


def _told_unresolved(wanted: Wanted) -> int:
    if not wanted.unresolved:
        return DONE
    print(
        f"No address is known for {', '.join(wanted.unresolved)}: not allowed until this is run again.", file=sys.stderr
    )
    return UNRESOLVED


def _families() -> list[Family]:
    """IPv4 always; IPv6 unless the kernel has none."""
    found = [each for each in FAMILIES if each.version == 4 or Path("/proc/sys/net/ipv6").exists()]
    for family in found:
        if shutil.which(family.save) is None:
            raise CannotFilter(f"{family.save} is not installed: install iptables.")
    return found


def _saved(family: Family) -> str:
    return _run([family.save, "-t", "mangle"])


def _run(command: list[str], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    if done.returncode:
        why = "only root can" if os.geteuid() else done.stderr.strip()[-300:]
        raise CannotFilter(f"{command[0]} failed: {why}. No rule of its family was changed.")
    return done.stdout


def _files(wanted: Wanted, chosen: argparse.Namespace) -> dict[Path, bytes]:
    """The unit, with names as they were given, and the program that it runs."""
    options = ["--bridge", wanted.policy.bridge]
    for name in ("allow", "deny", "dns"):
        options += [part for each in getattr(chosen, name) for part in (f"--{name}", each)]
    options += ["--closed"] if chosen.closed else []
    here, library = Path(__file__).resolve().parent, chosen.root / LIBRARY / "docker"
    names = ("__init__.py", "firewall.py", "firewall_rules.py")
    return {
        **{library / name: (here / name).read_bytes() for name in names},
        chosen.root / _UNITS / _unit_name(wanted.policy): unit(wanted.policy.bridge, options).encode(),
    }


def _put(path: Path, content: bytes, *, dry: bool) -> None:
    if dry:
        shown = content.decode() if path.suffix == ".service" else f"{len(content)} bytes of this program"
        print(f"would be written to {path}:\n{shown}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    os.chmod(beside, 0o644)
    os.replace(beside, path)


def _systemctl(first: list[str], second: list[str], chosen: argparse.Namespace) -> None:
    for command in (first, second):
        line = ["systemctl", *command]
        if chosen.dry_run:
            print(f"would be run: {shlex.join(line)}")
        elif _SYSTEMD.exists() and chosen.root == Path("/"):
            _run(line)


def _has_systemd(root: Path) -> bool:
    if root == Path("/"):
        return _SYSTEMD.exists()
    return any((root / folder / "systemd/system").exists() for folder in ("lib", "usr/lib"))


def _unit_name(policy: Policy) -> str:
    return f"session-firewall-{policy.bridge}.service"


def _python() -> str:
    """The system's, which is there at its start."""
    return "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


def _nameservers(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    words = [line.split() for line in lines]
    return tuple(each[1].partition("%")[0] for each in words if len(each) > 1 and each[0] == "nameserver")


if __name__ == "__main__":
    sys.exit(main())
