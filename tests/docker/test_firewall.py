"""The firewall in a kernel of its own kind: three namespaces stand for a session, its machine and the world beyond."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker import firewall
from docker.firewall_rules import Target
from tests.docker.daemon import missing
from tests.docker.set_up_daemon import within
from tests.docker_fixtures import without_docker

ROOT = Path(__file__).parents[2]
BRIDGE = "session-gateway"
# Of documentation, so nobody has them: they stand for the internet.
INTERNET, INTERNET_6 = "203.0.113.1", "2001:db8:1::1"
PRIVATE, PRIVATE_6, METADATA = "10.99.0.1", "fd99::1", "169.254.169.254"
HOST, HOST_6, HOST_LINK = "172.31.99.1", "fd31::1", "fe80::31"
REMOTE = (INTERNET, PRIVATE, METADATA, INTERNET_6, PRIVATE_6)
PORT = 8099


class World:
    """``session`` is on the bridge of ``machine``, which routes to ``beyond``."""

    def __init__(self) -> None:
        self.session, self.machine, self.beyond = (f"gwfw{os.getpid() % 100000}{letter}" for letter in "smb")

    def make(self) -> None:
        for each in (self.session, self.machine, self.beyond):
            ip("netns", "add", each)
            ip("-n", each, "link", "set", "lo", "up")
        machine = ("-n", self.machine)
        ip(*machine, "link", "add", BRIDGE, "type", "bridge")
        ip(*machine, "link", "add", "p0", "type", "veth", "peer", "name", "eth0", "netns", self.session)
        ip(*machine, "link", "set", "p0", "master", BRIDGE, "up")
        ip(*machine, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", self.beyond)
        self._address(self.machine, BRIDGE, f"{HOST}/24", f"{HOST_6}/64", f"{HOST_LINK}/64")
        self._address(self.machine, "up0", "198.51.100.1/24", "2001:db8:9::1/64")
        self._address(self.session, "eth0", "172.31.99.2/24", "fd31::2/64", "fe80::32/64")
        self._address(self.beyond, "eth0", "198.51.100.2/24", "2001:db8:9::2/64")
        self._address(self.beyond, "lo", *REMOTE)
        for version, host, up, down in ((4, HOST, "198.51.100.2", "198.51.100.1"), (6, HOST_6, "2001:db8:9::2", "")):
            ip("-n", self.session, f"-{version}", "route", "add", "default", "via", host)
            ip("-n", self.machine, f"-{version}", "route", "add", "default", "via", up)
            ip("-n", self.beyond, f"-{version}", "route", "add", "default", "via", down or "2001:db8:9::1")
        for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            # /proc/sys/net shows the namespace of whoever opens it
            with within(self.machine):
                Path(f"/proc/sys/{name}").write_text("1")

    def _address(self, namespace: str, interface: str, *addresses: str) -> None:
        ip("-n", namespace, "link", "set", interface, "up")
        for address in addresses:
            extra = ("nodad",) if ":" in address else ()
            ip("-n", namespace, "addr", "add", address, "dev", interface, *extra)

    def remove(self) -> None:
        for each in (self.session, self.machine, self.beyond):
            subprocess.run(["ip", "netns", "del", each], check=False, capture_output=True)

    def firewall(self, *options: str) -> tuple[int, str]:
        """Run it on the machine, with a Python that has no package but its own library."""
        command = ["nsenter", f"--net=/run/netns/{self.machine}", sys.executable, "-S", "-m", "docker.firewall"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "RES_OPTIONS": "timeout:1 attempts:1"}
        done = subprocess.run(
            [*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment
        )
        return done.returncode, done.stdout + done.stderr

    def reached(self, *addresses: str, all_of: set[str]) -> set[str]:
        """Which of them the session reaches; asked again for a neighbour that is found late (``all_of``)."""
        found = self._reached(*addresses)
        for _ in range(3):
            if found >= all_of:
                break
            found |= self._reached(*addresses)
        return found

    def _reached(self, *addresses: str) -> set[str]:
        found = set[str]()

        def reach(address: str) -> None:
            with within(self.session), contextlib.suppress(OSError):
                scoped = f"{address}%eth0" if address.startswith("fe80") else address
                with socket.create_connection((scoped, PORT), timeout=1.2) as connection:
                    found.add(address) if connection.recv(1) else None

        threads = [threading.Thread(target=reach, args=(address,)) for address in addresses]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return found


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if reason := missing():
        without_docker(reason)
    made = World()
    try:
        made.make()
        with served(made.machine), served(made.beyond):
            yield made
    finally:
        made.remove()


@contextlib.contextmanager
def served(namespace: str) -> Iterator[None]:
    with within(namespace):
        server = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                with server.accept()[0] as connection:
                    connection.sendall(b"x")

    threading.Thread(target=serve, daemon=True).start()
    with server:
        yield
        server.shutdown(socket.SHUT_RDWR)


RESOLV, BEHIND, DAEMON = "etc/resolv.conf", "run/systemd/resolve/resolv.conf", "etc/docker/daemon.json"
EVERYTHING = {*REMOTE, HOST, HOST_6, HOST_LINK}


@pytest.mark.docker
def test_a_session_reaches_the_internet_and_what_is_allowed(world: World) -> None:
    """IPv4 and IPv6, on the machine and beyond it. Without the rules all is open: the rules are what closes."""
    assert world.reached(*EVERYTHING, all_of=EVERYTHING) == EVERYTHING
    assert world.firewall("--check")[0] == firewall.NOT_IN_FORCE
    allowed = ("--allow", f"{PRIVATE}:{PORT}", "--allow", f"[{HOST_6}]:{PORT}", "--allow", f"{HOST}:1")
    assert world.firewall(*allowed)[0] == firewall.DONE
    assert world.reached(*EVERYTHING, all_of={INTERNET, INTERNET_6, PRIVATE, HOST_6}) == {
        INTERNET,
        INTERNET_6,
        PRIVATE,
        HOST_6,
    }
    assert world.firewall("--check", *allowed)[0] == firewall.DONE
    assert world.firewall("--check")[0] == firewall.NOT_IN_FORCE, "other options are other rules"
    code, said = world.firewall(*allowed)
    assert (code, said[:13]) == (firewall.DONE, "Nothing to do")
    assert world.firewall("--closed", "--deny", "192.0.2.0/24")[0] == firewall.DONE
    assert world.reached(*EVERYTHING, all_of=set()) == set()
    assert world.firewall("--remove")[0] == firewall.DONE
    assert world.reached(*EVERYTHING, all_of=EVERYTHING) == EVERYTHING
    assert "Nothing to do" in world.firewall("--remove")[1]


@pytest.mark.docker
def test_a_dry_run_changes_nothing(world: World) -> None:
    code, said = world.firewall("--dry-run", "--closed")
    assert code == firewall.DONE
    assert "ip6tables-restore --noflush" in said
    assert world.firewall("--check", "--closed")[0] == firewall.NOT_IN_FORCE


@pytest.mark.docker
def test_a_name_without_an_address_is_told_and_stays_closed(world: World) -> None:
    try:
        code, said = world.firewall("--allow", "nowhere.invalid:80")
        assert code == firewall.UNRESOLVED
        assert "nowhere.invalid" in said
        assert world.reached(HOST, all_of=set()) == set()
    finally:
        world.firewall("--remove")


@pytest.mark.docker
def test_the_unit_applies_the_same_rules_with_the_installed_program(world: World, tmp_path: Path) -> None:
    """What stands in ExecStart is run here as systemd runs it at the machine's start."""
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    options = ("--root", str(tmp_path), "--allow", f"{PRIVATE}:{PORT}", "--deny", "203.0.113.0/24")
    try:
        assert world.firewall(*options)[0] == firewall.DONE
        assert "Nothing to do" in world.firewall(*options)[1]
        world.firewall("--remove")
        unit = tmp_path / "etc/systemd/system" / f"session-firewall-{BRIDGE}.service"
        line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
        command = ["nsenter", f"--net=/run/netns/{world.machine}", *line.removeprefix("ExecStart=").split()]
        library = {"PYTHONPATH": str(tmp_path / firewall.LIBRARY), "PATH": "/usr/sbin:/usr/bin"}
        assert subprocess.run(command, env=library, cwd="/", timeout=60).returncode == 0
        assert world.reached(PRIVATE, INTERNET, INTERNET_6, all_of={PRIVATE, INTERNET_6}) == {PRIVATE, INTERNET_6}
        assert world.firewall("--remove", "--root", str(tmp_path))[0] == firewall.DONE
        assert not unit.exists()
    finally:
        world.firewall("--remove")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({RESOLV: "nameserver 10.0.0.2\nnameserver 127.0.0.1\noptions x\n"}, ("10.0.0.2",)),
        ({RESOLV: "nameserver 127.0.0.53\n", BEHIND: "nameserver 10.1.1.1"}, ("10.1.1.1",)),
        ({RESOLV: "nameserver 10.0.0.2\n", DAEMON: '{"dns": ["10.3.0.1"]}'}, ("10.3.0.1",)),
        ({RESOLV: "nameserver fe80::1%eth0\n", DAEMON: "no json"}, ("fe80::1",)),
        ({}, ()),
    ],
)
def test_name_servers_are_those_that_docker_asks(files: dict[str, str], found: tuple[str, ...], tmp_path: Path) -> None:
    """It asks them from the container's side: in a closed network they would be closed with it."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert firewall.resolvers(tmp_path) == found


def test_names_are_allowed_by_all_their_addresses() -> None:
    found, unresolved = firewall.resolved([("127.0.0.1", 80), ("fd00::1", 81), ("nowhere.invalid", 82)])
    assert found == (Target("127.0.0.1", 80), Target("fd00::1", 81))
    assert unresolved == ("nowhere.invalid",)


@pytest.mark.parametrize("options", [("--allow", "x"), ("--deny", "x"), ("--bridge", "a/b"), ("--bridge", "x" * 16)])
def test_wrong_use_ends_with_2_before_anything_is_done(options: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        firewall.main(options, {})
    assert ended.value.code == firewall.WRONG_USE


def test_the_model_of_the_gateways_settings_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[Target, ...]]()

    def check(wanted: firewall.Wanted) -> int:
        seen.append(wanted.policy.allow)
        return 0

    monkeypatch.setattr(firewall, "_check", check)
    for address in ("http://10.0.0.5:11434/v1", "https://10.0.0.6/v1", "http://[fd00::7]/v1"):
        firewall.main(["--check"], {"MODEL_BASE_URL": address})
    assert seen == [(Target("10.0.0.5", 11434),), (Target("10.0.0.6", 443),), (Target("fd00::7", 80),)]
