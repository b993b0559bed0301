"""Where published ports are reached: each method with its input faked at the edge, their order, and the cache."""

import asyncio
import logging
from typing import Any

import pytest

from docker.errors import HostAddressUnknown
from docker.host_ip import (
    CACHE_SECONDS,
    COMMON,
    FAILURE_SECONDS,
    Found,
    HostAddress,
    Method,
    default_gateways,
    detect,
    doubt,
    in_container,
    published,
)
from docker.settings import DockerSettings
from tests.docker.host_world import BRIDGE_ROUTE, DAEMON, ROUTE_HEAD, World

FAR = "tcp://10.9.9.9:2376"


def settings(**given: Any) -> DockerSettings:
    return DockerSettings(**{"docker_host": FAR, **given})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_1_the_internal_name_comes_first() -> None:
    world = World(names={"host.docker.internal": ["192.168.65.254"]}, files={"/proc/net/route": BRIDGE_ROUTE})
    assert await detect(settings(gateway="172.20.0.9"), world.edges) == Found("192.168.65.254", Method.INTERNAL)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"docker_host_gateway": "172.18.0.9", "gateway": "172.20.0.9"}, "172.18.0.9"),
        ({"gateway": "172.20.0.9"}, "172.20.0.9"),
        ({"docker_host_gateway": "box.example"}, "10.1.1.1"),
        ({"docker_host_gateway": "https://box/", "gateway": "172.20.0.9"}, "172.20.0.9"),
    ],
)
async def test_2_then_the_environment(given: dict[str, str], address: str) -> None:
    """GATEWAY is a word of many: what is no address there is passed over."""
    world = World(names={"box.example": ["10.1.1.1"]}, files={"/proc/net/route": BRIDGE_ROUTE})
    assert await detect(settings(**given), world.edges) == Found(address, Method.ENVIRONMENT)


async def test_3_then_the_default_route() -> None:
    world = World(files={"/proc/net/route": BRIDGE_ROUTE})
    assert await detect(settings(), world.edges) == Found("172.250.0.1", Method.ROUTE)


async def test_4_then_the_network_from_which_the_daemon_is_reached() -> None:
    """Without a default route: an internal network. Its first address is the bridge's own."""
    assert await detect(settings(), World(own="172.250.3.7").edges) == Found("172.250.3.1", Method.CONNECT)


async def test_5_then_a_common_bridge_but_only_where_the_daemon_answers() -> None:
    world = World(own="", daemons={"10.9.9.9": DAEMON, COMMON[1]: DAEMON})
    assert await detect(settings(), world.edges) == Found(COMMON[1], Method.COMMON, confirmed=True)
    with pytest.raises(HostAddressUnknown, match=r"Could not detect Docker host IP.*Set HOST_IP"):
        await detect(settings(), World(own="").edges)


@pytest.mark.parametrize("container", [True, False])
async def test_host_ip_overrides_all(container: bool) -> None:
    world = World(names={"host.docker.internal": ["1.1.1.1"]}, container=container)
    given = settings(host_ip="10.3.3.3", publish_address="172.17.0.1")
    assert await detect(given, world.edges) == Found("10.3.3.3", Method.OVERRIDE)
    assert world.asked == []


async def test_one_address_published_on_is_where_ports_are_reached() -> None:
    """They appear there and nowhere else, whatever a method says."""
    world = World(names={"host.docker.internal": ["172.17.0.1"]}, daemons={"172.17.0.1": DAEMON, "10.9.9.9": DAEMON})
    given = settings(publish_address="172.30.250.1")
    assert await detect(given, world.edges) == Found("172.30.250.1", Method.PUBLISHED)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "10.9.9.9", "box"])
@pytest.mark.parametrize("container", [True, False])
async def test_beside_the_daemon_its_loopback_is_ours(host: str, container: bool) -> None:
    """On the same machine, or in a container that has the machine's own network."""
    world = World(own="10.9.9.9", names={"localhost": ["127.0.0.1"], "box": ["10.9.9.9"]}, container=container)
    found = await detect(settings(docker_host=f"tcp://{host}:2376"), world.edges)
    assert found == Found("127.0.0.1", Method.THIS_MACHINE)


async def test_a_plain_hosts_router_is_not_the_daemons_machine() -> None:
    """Outside a container none of the five methods is asked: a remote daemon's ports are at the daemon."""
    world = World(files={"/proc/net/route": BRIDGE_ROUTE}, container=False)
    given = settings(publish_address="0.0.0.0", allow_public_publish=True)
    assert await detect(given, world.edges) == Found("10.9.9.9", Method.DAEMON)


async def test_a_wrong_method_does_not_win_over_a_right_one() -> None:
    """The route names a VPN's router; the daemon answers at a bridge."""
    names = {"host.docker.internal": ["10.5.5.5"]}
    files = {"/proc/net/route": BRIDGE_ROUTE}
    world = World(names=names, files=files, daemons={"10.9.9.9": DAEMON, "172.17.0.1": DAEMON})
    assert await detect(settings(), world.edges) == Found("172.17.0.1", Method.COMMON, confirmed=True)


async def test_another_daemon_is_not_ours() -> None:
    """This container's machine has a daemon too; the sessions run on the one that DOCKER_HOST names."""
    world = World(names={"host.docker.internal": ["172.17.0.1"]}, daemons={"172.17.0.1": "another", "10.9.9.9": DAEMON})
    assert await detect(settings(), world.edges) == Found("10.9.9.9", Method.DAEMON, confirmed=True)


async def test_the_first_confirmed_in_order_wins_and_its_other_addresses_do_not_matter() -> None:
    world = World(
        names={"host.docker.internal": ["fd00::1", "172.17.0.1"]},
        files={"/proc/net/route": BRIDGE_ROUTE},
        daemons=dict.fromkeys(["10.9.9.9", "172.17.0.1", "172.250.0.1"], DAEMON),
    )
    assert await detect(settings(), world.edges) == Found("172.17.0.1", Method.INTERNAL, confirmed=True)


@pytest.mark.parametrize(
    ("table", "gateways"),
    [
        ("", []),
        (ROUTE_HEAD, []),
        ("\0\xff rubbish\nmore\n", []),
        (ROUTE_HEAD + "eth0\t00000000\t0100FAAC\t0003\n", []),  # cut short
        (ROUTE_HEAD + "eth0\t00000000\tZZZZZZZZ\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", []),
        (ROUTE_HEAD + "eth0\t00000000\t0100\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", []),
        (ROUTE_HEAD + "eth0\t00000000\t0100FAAC\t0001\t0\t0\t0\t00000000\t0\t0\t0\n", []),  # no gateway
        (ROUTE_HEAD + "eth0\t00000000\t0100FAAC\t0002\t0\t0\t0\t00000000\t0\t0\t0\n", []),  # down
        (ROUTE_HEAD + "eth0\t000011AC\t0100FAAC\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n", []),  # not the default
        (ROUTE_HEAD + "eth0\t00000000\t0100FAAC\t0003\t0\t0\t0\t00000080\t0\t0\t0\n", []),  # half of the world: a VPN
        (BRIDGE_ROUTE, ["172.250.0.1"]),
        (
            BRIDGE_ROUTE.replace("\t0\t00000000\t0\t0\t0", "\t100\t00000000\t0\t0\t0")
            + "eth1\t00000000\t010011AC\t0003\t0\t0\t20\t00000000\t0\t0\t0\n",
            ["172.17.0.1", "172.250.0.1"],  # by metric
        ),
    ],
)
def test_the_route_table_is_read_as_the_kernel_writes_it(table: str, gateways: list[str]) -> None:
    assert default_gateways(table) == gateways


async def test_a_broken_route_table_is_no_answer() -> None:
    assert (await detect(settings(), World(files={"/proc/net/route": "rubbish"}).edges)).method is Method.CONNECT


CONTAINER_ID = "3f" * 32


@pytest.mark.parametrize(
    ("files", "inside"),
    [
        ({}, False),
        ({"/.dockerenv": ""}, True),
        ({"/run/.containerenv": ""}, True),
        ({"/proc/self/cgroup": f"12:pids:/docker/{CONTAINER_ID}\n"}, True),
        ({"/proc/self/cgroup": f"0::/system.slice/docker-{CONTAINER_ID}.scope\n"}, True),
        ({"/proc/self/cgroup": "3:cpu:/kubepods/besteffort/pod1234/abc\n"}, True),
        ({"/proc/self/cgroup": "0::/kubepods.slice/kubepods-pod1.slice\n"}, True),
        ({"/proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n"}, False),
        ({"/proc/self/cgroup": "0::/system.slice/docker.service\n"}, False),
        (
            {"/proc/self/mountinfo": f"1 2 8:1 /var/lib/docker/containers/{CONTAINER_ID}/hosts /etc/hosts rw - x\n"},
            True,
        ),
        (
            {"/proc/self/mountinfo": f"1 2 0:9 / /var/lib/docker/containers/{CONTAINER_ID}/mounts/shm rw - tmpfs\n"},
            False,
        ),
        ({"/proc/self/mountinfo": "\0\0", "/proc/self/cgroup": ""}, False),
    ],
)
def test_a_container_is_known_by_what_its_runtime_left(files: dict[str, str], inside: bool) -> None:
    """A daemon's machine has containers' mounts too, and is none."""
    assert in_container(World(files=files, container=False).edges) is inside


async def test_it_is_kept_for_five_minutes_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "session_gateway.host_address")
    clock, world = Clock(), World(files={"/proc/net/route": BRIDGE_ROUTE})
    address = HostAddress(settings(), world.edges, clock)
    assert address.last is None
    assert (await address.find()).address == "172.250.0.1"
    asked = len(world.asked)
    clock.now += CACHE_SECONDS - 1
    await address.find()
    assert (len(world.asked), address.age) == (asked, CACHE_SECONDS - 1)
    clock.now += 1
    await address.find()
    assert len(world.asked) > asked
    assert address.age == 0
    assert caplog.messages == ["published ports are reached at 172.250.0.1 (default route)"]


async def test_a_failure_is_kept_for_a_shorter_time() -> None:
    clock, world = Clock(), World(own="")
    address = HostAddress(settings(), world.edges, clock)
    for _ in range(2):
        with pytest.raises(HostAddressUnknown):
            await address.find()
    asked = len(world.asked)
    assert asked == 1, "the second was told from memory"
    world.files["/proc/net/route"] = BRIDGE_ROUTE
    clock.now += FAILURE_SECONDS
    assert (await address.find()).address == "172.250.0.1"


async def test_it_stays_while_the_daemon_answers_there(caplog: pytest.LogCaptureFixture) -> None:
    """A name that comes and goes must not move the sessions to and fro."""
    caplog.set_level(logging.INFO, "session_gateway.host_address")
    clock = Clock()
    daemons = dict.fromkeys(["10.9.9.9", "172.250.0.1", "192.168.65.254"], DAEMON)
    world = World(files={"/proc/net/route": BRIDGE_ROUTE}, daemons=daemons)
    address = HostAddress(settings(), world.edges, clock)
    seen = []
    for turn in range(6):
        world.names = {"host.docker.internal": ["192.168.65.254"]} if turn % 2 else {}
        seen.append((await address.find()).address)
        clock.now += CACHE_SECONDS
    assert seen == ["172.250.0.1"] * 6
    assert len(caplog.messages) == 1


async def test_it_stays_while_nothing_can_be_asked() -> None:
    """The daemon is away, then the names are too."""
    clock = Clock()
    world = World(names={"box": ["10.9.9.9"]}, daemons=dict.fromkeys(["box", "172.17.0.1"], DAEMON))
    address = HostAddress(settings(docker_host="tcp://box:2376"), world.edges, clock)
    assert (await address.find()).address == "172.17.0.1"
    world.files["/proc/net/route"] = BRIDGE_ROUTE
    for lost in (world.daemons, world.names):
        lost.clear()
        clock.now += CACHE_SECONDS
        assert (await address.find()).address == "172.17.0.1"


async def test_it_moves_when_the_daemon_answers_elsewhere_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "session_gateway.host_address")
    clock, world = Clock(), World(daemons=dict.fromkeys(["10.9.9.9", "172.17.0.1"], DAEMON))
    address = HostAddress(settings(), world.edges, clock)
    await address.find()
    world.daemons = dict.fromkeys(["10.9.9.9", "172.18.0.1"], DAEMON)
    clock.now += CACHE_SECONDS
    assert (await address.find()).address == "172.18.0.1"
    assert caplog.messages[1].endswith("(common bridges, the daemon answers there), no longer at 172.17.0.1")


async def test_one_late_handshake_moves_nothing() -> None:
    clock, world = Clock(), World(daemons=dict.fromkeys(["10.9.9.9", "172.17.0.1"], DAEMON))
    address = HostAddress(settings(), world.edges, clock)
    first = await address.find()
    clock.now += CACHE_SECONDS
    world.late = ["172.17.0.1"]
    world.names = {"host.docker.internal": ["192.168.65.254"]}  # an earlier method's, and the daemon answers there too
    world.daemons["192.168.65.254"] = DAEMON
    assert await address.find() == first
    assert world.late == []


async def test_an_address_that_was_lost_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Meanwhile no session is made that nobody would reach."""
    caplog.set_level(logging.INFO, "session_gateway.host_address")
    clock, world = Clock(), World(daemons=dict.fromkeys(["10.9.9.9", "172.17.0.1"], DAEMON))
    address = HostAddress(settings(), world.edges, clock)
    assert (await address.publishing()).publish_address == "172.17.0.1"
    clock.now += CACHE_SECONDS
    world.late = ["172.17.0.1"] * 3  # kept by two looks; the third is the methods'
    with pytest.raises(HostAddressUnknown, match=r"PUBLISH_ADDRESS=127\.0\.0\.1 is that machine's loopback"):
        await address.publishing()
    clock.now += FAILURE_SECONDS
    assert (await address.publishing()).publish_address == "172.17.0.1"
    assert [message.split()[5] for message in caplog.messages] == ["172.17.0.1", "10.9.9.9", "172.17.0.1"]


async def test_those_who_ask_at_once_are_answered_by_one_look() -> None:
    alone, shared = (World(daemons=dict.fromkeys(["10.9.9.9", "172.17.0.1"], DAEMON)) for _ in range(2))
    await HostAddress(settings(), alone.edges).find()
    address = HostAddress(settings(), shared.edges)
    await asyncio.gather(*(address.find() for _ in range(3)))
    assert shared.asked == alone.asked


def test_in_a_container_ports_are_published_on_the_bridge_that_was_found() -> None:
    changed, note = published(settings(), Found("172.18.0.1", Method.ROUTE))
    assert changed.publish_address == "172.18.0.1"
    assert "172.18.0.1 (default route)" in note


@pytest.mark.parametrize(
    "found",
    [
        Found("192.168.65.254", Method.INTERNAL),  # Docker Desktop leads to its machine's loopback
        Found("10.9.9.9", Method.DAEMON),  # another machine
        Found("172.16.4.4", Method.DAEMON),  # on a network of the site's, not a bridge
    ],
)
def test_nothing_is_published_where_others_could_reach_it(found: Found) -> None:
    changed, note = published(settings(), found)
    assert changed.publish_address == "127.0.0.1"
    assert "PUBLISH_ADDRESS" in note


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, Found("127.0.0.1", Method.THIS_MACHINE)),
        ({"host_ip": "10.0.0.1"}, Found("10.0.0.1", Method.OVERRIDE)),
        ({"publish_address": "172.17.0.1"}, Found("172.17.0.1", Method.PUBLISHED)),
        ({"publish_address": "0.0.0.0", "allow_public_publish": True}, Found("172.17.0.1", Method.ROUTE)),
    ],
)
def test_what_was_chosen_stays(given: dict[str, Any], found: Found) -> None:
    assert published(settings(**given), found) == (settings(**given), "")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "PUBLISH_ADDRESS=127.0.0.1"),
        ({"host_ip": "10.9.9.9"}, "PUBLISH_ADDRESS=127.0.0.1"),  # right, and the port is on its loopback all the same
        ({"host_ip": "foo"}, "HOST_IP=foo has no address"),
        ({"host_ip": "10.1.1.1"}, "HOST_IP=10.1.1.1 is not"),
        ({"host_ip": "10.9.9.8"}, ""),
        ({"publish_address": "10.9.9.9", "allow_public_publish": True}, ""),
        ({"host_ip": "10.9.9.9", "publish_address": "10.9.9.9", "allow_public_publish": True}, ""),
    ],
)
async def test_an_address_where_no_session_is_reached_is_doubted(given: dict[str, Any], word: str) -> None:
    """The daemon is on another machine, 10.9.9.9, which has the address 10.9.9.8 too."""
    world = World(container=False, daemons=dict.fromkeys(["10.9.9.9", "10.9.9.8"], DAEMON))
    address = HostAddress(settings(**given), world.edges)
    found = await doubt(settings(**given), await address.find(), world.edges)
    assert (word in found) if word else (found == "")
    assert await address.note() == found


async def test_containers_are_published_where_they_are_reached() -> None:
    world = World(files={"/proc/net/route": BRIDGE_ROUTE.replace("0100FAAC", "010012AC")})
    publishing = await HostAddress(settings(), world.edges).publishing()
    assert publishing.publish_address == "172.18.0.1"
