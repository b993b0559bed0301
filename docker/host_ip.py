"""Where the gateway reaches the ports that the daemon publishes; five methods in a container, none elsewhere.

A port that was published on one address is reached there and nowhere else. The question is open for ports on the
loopback or on every address of the daemon's machine, and its answer depends on where this process runs: beside the
daemon it is our own loopback; on another machine it is the daemon's address; in a container it is whatever the daemon's
machine is called from inside, and the route table of a plain host, which names the router, must not be asked.

A candidate at which the daemon of DOCKER_HOST answers, known by its certificate, wins over one that comes earlier and
where it does not. When nothing can be tried the order decides.
"""

import asyncio
import enum
import ipaddress
import logging
import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from docker.errors import HostAddressUnknown
from docker.host_edges import REAL, Edges
from docker.settings import DockerSettings, daemon_url, is_bridge

CACHE_SECONDS: Final = 300.0
FAILURE_SECONDS: Final = 15.0
INTERNAL_NAME: Final = "host.docker.internal"
# Docker's first bridges, Docker Desktop, a rootless daemon's host.
COMMON: Final = ("172.17.0.1", "172.18.0.1", "172.19.0.1", "172.20.0.1", "192.168.65.254", "10.0.2.2")
LOOPBACK: Final = "127.0.0.1"
ROUTES: Final = "/proc/net/route"
_MARKS: Final = ("/.dockerenv", "/run/.containerenv")  # Docker's, Podman's
_CGROUP: Final = re.compile(r"/(?:docker|libpod|lxc)[/-]|/kubepods[/.-]")
# A container's own names are files of its runtime; a daemon's machine has such mounts too, but at other places.
_MOUNT: Final = re.compile(r"/(?:containers|sandboxes|pods)/[\w-]{12,}/\S* /etc/(?:hosts|hostname|resolv\.conf) ")
_UP_GATEWAY: Final = 0x1 | 0x2  # RTF_UP, RTF_GATEWAY of linux/route.h
log = logging.getLogger("session_gateway.host_address")


class Method(enum.StrEnum):
    """How an address was found, in the order in which they count."""

    OVERRIDE = "HOST_IP"
    PUBLISHED = "PUBLISH_ADDRESS"  # one address: ports appear there alone
    THIS_MACHINE = "this machine"
    INTERNAL = "host.docker.internal"
    ENVIRONMENT = "environment"
    ROUTE = "default route"
    CONNECT = "own network"
    COMMON = "common bridges"
    DAEMON = "DOCKER_HOST"


_GUESSED: Final = frozenset({Method.COMMON})  # counts only where the daemon answers


class Answer(msgspec.Struct, frozen=True):
    """What one method says: addresses, or why it has none. ``confirmed``: the one at which the daemon answers."""

    method: Method
    addresses: tuple[str, ...] = ()
    why: str = ""
    confirmed: str | None = None

    @property
    def address(self) -> str | None:
        return self.confirmed or (self.addresses[0] if self.addresses else None)


class Found(msgspec.Struct, frozen=True):
    """An address and how it was found."""

    address: str
    method: Method
    confirmed: bool = False  # the daemon of DOCKER_HOST answers there

    def __str__(self) -> str:
        return f"{self.address} ({self.method}{', the daemon answers there' if self.confirmed else ''})"


async def detect(settings: DockerSettings, edges: Edges = REAL, keep: Found | None = None) -> Found:
    """The address. ``keep`` stays while the daemon answers there, or while nothing better is known.

    Raises HostAddressUnknown, BadDockerSettings.
    """
    if settings.host_ip:
        return Found(settings.host_ip, Method.OVERRIDE)
    if not _unspecific(settings.publish_address):
        return Found(settings.publish_address, Method.PUBLISHED)
    try:
        if await beside_daemon(settings, edges):
            return Found(LOOPBACK, Method.THIS_MACHINE)
    except OSError:  # the conversation with the daemon tells it better
        if keep is not None:
            return keep
    if not in_container(edges):
        return Found(daemon_host(settings), Method.DAEMON)
    daemon = await edges.identity(settings, daemon_host(settings))
    if keep is not None and (daemon is None or await _stays(settings, edges, keep, daemon)):
        return Found(keep.address, keep.method, confirmed=daemon is not None)
    return choose(await answers(settings, edges, daemon), daemon_host(settings) if daemon is not None else None)


async def _stays(settings: DockerSettings, edges: Edges, keep: Found, daemon: str) -> bool:
    """Whether the daemon answers there: asked twice, because one handshake can be late.

    The daemon's own address is never kept in a container: it is what is left when no method's address answers.
    """
    if keep.method is Method.DAEMON:
        return False
    return daemon == await edges.identity(settings, keep.address) or daemon == await edges.identity(
        settings, keep.address
    )


async def beside_daemon(settings: DockerSettings, edges: Edges) -> bool:
    """Whether an address of the daemon is one of ours: then its loopback is ours too. Raises OSError."""
    return any(
        ipaddress.ip_address(address).is_loopback or edges.own_address(address) == address
        for address in await _addresses(daemon_host(settings), edges)
    )


def choose(said: list[Answer], daemon_at: str | None) -> Found:
    """The first that was confirmed; where none can be, the first at all. ``daemon_at``: where the daemon answers.

    Raises HostAddressUnknown.
    """
    for answer in said:
        if answer.confirmed is not None:
            return Found(answer.confirmed, answer.method, confirmed=True)
    if daemon_at is not None:  # it answers, and at none of the candidates: it is on another machine
        return Found(daemon_at, Method.DAEMON, confirmed=True)
    for answer in said:
        if answer.address is not None and answer.method not in _GUESSED:
            return Found(answer.address, answer.method)
    raise HostAddressUnknown(
        "Could not detect Docker host IP: the daemon does not answer, and neither a name, a variable nor a route of "
        "this container tells where its machine is. Set HOST_IP to an address of that machine."
    )


async def answers(settings: DockerSettings, edges: Edges, daemon: str | None) -> list[Answer]:
    """What each of the five methods says, in their order, tried against the daemon's identity where it is known."""
    said = [
        await _internal(edges),
        await _environment(settings, edges),
        _route(edges),
        await _connect(settings, edges),
        Answer(Method.COMMON, COMMON),
    ]
    if daemon is None:
        return said
    every = list(dict.fromkeys(address for answer in said for address in answer.addresses))
    shown = dict(zip(every, await asyncio.gather(*(edges.identity(settings, each) for each in every)), strict=True))
    return [
        msgspec.structs.replace(
            answer, confirmed=next((address for address in answer.addresses if shown[address] == daemon), None)
        )
        for answer in said
    ]


async def _internal(edges: Edges) -> Answer:
    try:
        return Answer(Method.INTERNAL, tuple(await edges.resolve(INTERNAL_NAME)))
    except OSError:
        return Answer(Method.INTERNAL, why="the name has no address here")


async def _environment(settings: DockerSettings, edges: Edges) -> Answer:
    """HOST_IP is not among them: it has won before."""
    given = {"DOCKER_HOST_GATEWAY": settings.docker_host_gateway, "GATEWAY": settings.gateway}
    found: list[str] = []
    unusable = []
    for name, value in given.items():
        try:
            found += await _addresses(value, edges) if value else []
        except OSError:
            unusable.append(f"{name}={value} is no address")
    why = "; ".join(unusable) or ("" if found else "neither DOCKER_HOST_GATEWAY nor GATEWAY is set")
    return Answer(Method.ENVIRONMENT, tuple(found), why)


def _route(edges: Edges) -> Answer:
    try:
        gateways = default_gateways(edges.read(ROUTES))
    except OSError as error:
        return Answer(Method.ROUTE, why=f"{ROUTES} cannot be read: {error.strerror or error}")
    return Answer(Method.ROUTE, tuple(gateways), "" if gateways else "there is no default route")


def default_gateways(table: str) -> list[str]:
    """Gateways of the default routes in the text of /proc/net/route, lowest metric first; other lines are passed over.

    Addresses are there as the kernel holds them: hexadecimal, lowest byte first on the machines that we run on.
    """
    found = []
    for line in table.splitlines():
        try:
            _, target, gateway, flags, _, _, metric, mask, *_ = line.split()
            if int(target, 16) == int(mask, 16) == 0 and int(flags, 16) & _UP_GATEWAY == _UP_GATEWAY:
                address = ipaddress.IPv4Address(bytes.fromhex(gateway)[::-1])
                found.append((int(metric), str(address)))
        except ValueError:
            continue
    return [address for _, address in sorted(found, key=lambda each: each[0])]


async def _connect(settings: DockerSettings, edges: Edges) -> Answer:
    """The first address of the network from which we reach the daemon, which is a bridge's own; then ours."""
    try:
        towards = (await _addresses(daemon_host(settings), edges))[0]
        own = edges.own_address(towards)
        network = ipaddress.IPv4Network(f"{own}/24", strict=False)
    except (OSError, ValueError, IndexError):
        return Answer(Method.CONNECT, why="there is no way to the daemon's address")
    return Answer(Method.CONNECT, tuple(dict.fromkeys((str(network[1]), own))))


def in_container(edges: Edges) -> bool:
    """Whether this process runs in a container, by what runtimes leave there."""
    if any(edges.exists(path) for path in _MARKS):
        return True
    for path, sign in (("/proc/self/cgroup", _CGROUP), ("/proc/self/mountinfo", _MOUNT)):
        try:
            if sign.search(edges.read(path)):
                return True
        except OSError:
            continue
    return False


def daemon_host(settings: DockerSettings) -> str:
    """The host in DOCKER_HOST. Raises BadDockerSettings."""
    return urlsplit(daemon_url(settings)).hostname or ""


async def _addresses(host: str, edges: Edges) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return await edges.resolve(host)


def _unspecific(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_unspecified


def published(settings: DockerSettings, found: Found) -> tuple[DockerSettings, str]:
    """The settings to create containers by, and what the person who started the gateway must know; empty: nothing.

    On the loopback of the daemon's machine nobody in a container reaches a port, so there it is published on the bridge
    that was found: that machine and its containers reach it, nobody else.
    """
    here = found.method in (Method.OVERRIDE, Method.PUBLISHED, Method.THIS_MACHINE)
    if here or not ipaddress.ip_address(settings.publish_address).is_loopback:
        return settings, ""
    if found.method is not Method.DAEMON and is_bridge(found.address):
        return msgspec.structs.replace(settings, publish_address=found.address), (
            f"Sessions' ports appear on {found} of the daemon's machine, because a container does not reach that "
            "machine's loopback. Set PUBLISH_ADDRESS to choose another."
        )
    return settings, (
        f"SESSIONS CANNOT BE REACHED if PUBLISH_ADDRESS={settings.publish_address}, the loopback of the daemon's "
        f"machine, is closed to us; that machine was found at {found}. Set PUBLISH_ADDRESS to an address there that we "
        "reach, and ALLOW_PUBLIC_PUBLISH=true if other machines reach it too."
    )


def out_of_reach(settings: DockerSettings, found: Found) -> bool:
    """Whether ports would appear on the loopback of a machine that is another than ours."""
    return found.method is Method.DAEMON and ipaddress.ip_address(settings.publish_address).is_loopback


async def doubt(settings: DockerSettings, found: Found, edges: Edges = REAL) -> str:
    """Why no session may be reached there, and what to do; empty when nothing speaks against it."""
    if found.method is Method.OVERRIDE:
        return await _doubt_of_given(settings, found, edges)
    changed, note = published(settings, found)
    return note if changed is settings else ""


async def _doubt_of_given(settings: DockerSettings, found: Found, edges: Edges) -> str:
    """HOST_IP is believed whatever it says; here it is looked at."""
    host = daemon_host(settings)
    try:
        await _addresses(found.address, edges)
    except OSError:
        return (
            f"SESSIONS CANNOT BE REACHED: HOST_IP={found.address} has no address here. Let it be where ports of the "
            "daemon's machine are reached, or leave it empty."
        )
    if found.address == host and not await beside_daemon(settings, edges):
        return published(settings, Found(host, Method.DAEMON))[1]
    daemon = await edges.identity(settings, host)
    if daemon is None or daemon == await edges.identity(settings, found.address):
        return ""
    return (
        f"SESSIONS CANNOT BE REACHED if HOST_IP={found.address} is not the daemon's machine: the daemon answers at "
        f"{host}, and not there. Correct HOST_IP, or leave it empty."
    )


class HostAddress:
    """The address, kept for CACHE_SECONDS; a failure, or where no session is reached, for FAILURE_SECONDS. One
    detection at a time.

    It does not waver: an address stays for as long as the daemon answers there, whatever an earlier method says now,
    and for as long as nothing can be asked at all. Sessions are adopted at another address only when theirs is wrong.
    """

    def __init__(
        self, settings: DockerSettings, edges: Edges = REAL, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._edges = edges
        self._now = now
        self._lock = asyncio.Lock()
        self._found: Found | None = None
        self._failure: HostAddressUnknown | None = None
        self._asked_at = 0.0
        self._until = 0.0

    async def find(self) -> Found:
        """The address. Raises HostAddressUnknown, BadDockerSettings."""
        async with self._lock:
            if self._now() >= self._until:
                await self._look()
            if self._found is not None:
                return self._found
            assert self._failure is not None
            raise HostAddressUnknown(*self._failure.args)

    async def publishing(self) -> DockerSettings:
        """The settings with the address to publish on. Raises as ``find``; also where nobody would reach it."""
        found = await self.find()
        if out_of_reach(self._settings, found):
            raise HostAddressUnknown(
                f"No session starts, since it could not be reached: the daemon's machine was found at {found}, and "
                f"PUBLISH_ADDRESS={self._settings.publish_address} is that machine's loopback. Set PUBLISH_ADDRESS to "
                "an address there that we reach, or HOST_IP if that loopback is reached at another."
            )
        return published(self._settings, found)[0]

    async def note(self) -> str:
        """What the person who starts the gateway must know of it; empty: nothing. Raises as ``find``."""
        found = await self.find()
        return published(self._settings, found)[1] or await doubt(self._settings, found, self._edges)

    @property
    def last(self) -> Found | None:
        """What was found last; None before that."""
        return self._found

    @property
    def age(self) -> float:
        """Seconds since it was last looked for."""
        return self._now() - self._asked_at

    async def _look(self) -> None:
        before = self._found
        try:
            found = await detect(self._settings, self._edges, keep=before)
        except HostAddressUnknown as error:
            self._failure, self._asked_at = error, self._now()
            self._until = self._asked_at + FAILURE_SECONDS
            return
        self._found, self._failure, self._asked_at = found, None, self._now()
        self._until = self._asked_at + (FAILURE_SECONDS if out_of_reach(self._settings, found) else CACHE_SECONDS)
        if before is None or (before.address, before.method) != (found.address, found.method):
            where = "" if before is None else f", no longer at {before.address}"
            log.info("published ports are reached at %s%s", found, where, extra={"operation": "host_address"})
