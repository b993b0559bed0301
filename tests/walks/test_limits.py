"""A session in its limits, on a real daemon: read back from outside and from inside, then run into one by one while its
neighbours answer as before."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from docker import names
from docker.readback import daemon_departures, departures, network_departures
from docker.settings import from_environment
from events.envelope import RecordedEvent
from tests.docker_fixtures import DockerDaemon
from tests.event_fixtures import until
from tests.gateway_fixtures import Session
from tests.walks import process
from tests.walks.neighbours import Neighbours

LIMITS: Final = {
    "CONTAINER_MEMORY_LIMIT": "64m",
    "CONTAINER_TMP_SIZE": "8m",
    "CONTAINER_CPU_QUOTA": "20000",
    "CONTAINER_PIDS_LIMIT": "24",
    "CONTAINER_LOG_SIZE": "1m",
    "CONTAINER_LOG_FILES": "2",
}
AS_SET: Final[Mapping[str, object]] = {
    "Memory": 64 << 20,
    "MemorySwap": 64 << 20,
    "CpuQuota": 20_000,
    "CpuPeriod": 100_000,
    "PidsLimit": 24,
    "ShmSize": 64 << 20,
    "OomScoreAdj": 500,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges:true"],
    "ReadonlyRootfs": True,
    "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,size={8 << 20},mode=1777"},
    "Privileged": False,
    "Init": True,
    "IpcMode": "private",
    "CgroupnsMode": "private",
    "PidMode": "",
    "UTSMode": "",
    "UsernsMode": "",
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "LogConfig": {"Type": "json-file", "Config": {"max-size": str(1 << 20), "max-file": "2"}},
}
# cgroup v2 has one tree, v1 one a kind of resource; a container sees its own either way.
INSIDE: Final = """
for f in /proc/[0-9]*/status; do grep -hE '^(Uid|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' $f; done | sort -u
cd /sys/fs/cgroup
echo memory $(cat memory.max memory/memory.limit_in_bytes 2>/dev/null)
echo pids $(cat pids.max pids/pids.max 2>/dev/null)
echo cpu $(cat cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
for d in / /etc /usr/bin /sys/fs/cgroup /proc/sys/kernel; do touch $d/x 2>/dev/null && echo written $d; done
dd if=/dev/zero of=/tmp/big bs=1M count=9 2>&1 | grep -o 'No space left'; rm /tmp/big
echo shm $(df -k /dev/shm | tail -1 | awk '{print $2}')
echo core $(ulimit -Hc)
find / \\( -path /proc -o -path /sys \\) -prune -o \\( -type s -o -type b \\) -print
cat /proc/1/oom_score_adj
cat /proc/keys /proc/kcore /sys/firmware/* 2>/dev/null | head -c 1
"""
# As many as it can for two seconds, each of which does the same.
FORK_BOMB: Final = """
import os, time
end, refused = time.monotonic() + 2, 0
while time.monotonic() < end:
    try:
        os.fork()
    except BlockingIOError:
        refused += 1
    time.sleep(0.005)
print("refused" if refused else "let")
"""
CPU_HOG: Final = """
import os, time
end = time.monotonic() + 2
[os.fork() for _ in range(3)]
while time.monotonic() < end:
    pass
"""
MEMORY_HOG: Final = "bytearray(300 << 20)"


@pytest.fixture
def settings(docker_daemon: DockerDaemon, echo_image: str) -> Iterator[dict[str, str]]:
    """A gateway's, on the daemon; its containers are removed afterwards."""
    given = {"SESSION_RUNTIME": "docker", "SESSION_IMAGE": echo_image, "USE_DATABASE_STORAGE": "false"}
    yield {**docker_daemon.environment, **given, **LIMITS}
    for each in _containers(docker_daemon):
        docker_daemon.ask("DELETE", f"/containers/{each['Id']}?force=1&v=1")


@pytest.mark.docker
async def test_every_session_is_held_as_it_was_asked(
    docker_daemon: DockerDaemon, settings: dict[str, str], data_dir: Path
) -> None:
    async with process.serving(data_dir, settings) as gateway, gateway.client() as client:
        opened = await asyncio.gather(gateway.open(client), gateway.open(client))
        for session in opened:
            container = await _container(client, session)
            said = docker_daemon.ask("GET", f"/containers/{container}/json")[1]
            assert {key: said["HostConfig"][key] for key in AS_SET} == AS_SET
            labels = names.labels(said["Config"]["Labels"][names.OWNER], session.session_id, container)
            asked = from_environment(settings)
            assert departures(said, asked, labels=labels) == []
            assert {each["Type"] for each in said["Mounts"]} == {"volume"}
            _check_inside(docker_daemon.run_in(container, "/bin/sh", "-c", INSIDE))
        network = docker_daemon.ask("GET", f"/networks/{docker_daemon.settings.session_network}")[1]
        assert network_departures(network, docker_daemon.settings) == []
        assert daemon_departures(docker_daemon.ask("GET", "/info")[1]) == []


def _check_inside(said: str) -> None:
    lines = [line.split() for line in said.splitlines()]
    assert lines == [
        ["CapAmb:", "0000000000000000"],
        ["CapBnd:", "0000000000000000"],
        ["CapEff:", "0000000000000000"],
        ["NoNewPrivs:", "1"],
        ["Seccomp:", "2"],
        ["Uid:", "1000", "1000", "1000", "1000"],
        ["memory", str(64 << 20)],
        ["pids", "24"],
        ["cpu", "20000", "100000"],
        ["No", "space", "left"],
        ["shm", str(64 << 10)],
        ["core", "0"],
        ["500"],
    ]


@pytest.mark.docker
async def test_who_runs_into_a_limit_is_told_and_harms_nobody_else(
    docker_daemon: DockerDaemon, settings: dict[str, str], data_dir: Path
) -> None:
    """The only proof of row B6; some 20 s."""
    async with process.serving(data_dir, settings) as gateway, gateway.client() as client:
        victim, *others = await asyncio.gather(*(gateway.open(client) for _ in range(3)))
        hurt, other = await _container(client, victim), await _container(client, others[0])
        async with Neighbours(client, [(other.path("echo"), other.headers) for other in others]).asked() as neighbours:
            async with neighbours.during("nothing"):
                await asyncio.sleep(2)  # the time itself is what is measured
            async with neighbours.during("memory hog, a child"):
                await _in(docker_daemon, hurt, MEMORY_HOG)
                await _told(client, victim, "container.memory_exhausted")
            assert (await client.get(victim.path("echo"), headers=victim.headers)).status_code == 200, "it lives on"
            async with neighbours.during("fork bomb"):
                bomb = asyncio.create_task(_in(docker_daemon, hurt, FORK_BOMB))
                await until(lambda: _pids(docker_daemon, hurt, 22, 24))
                said = await bomb
            assert "refused" in said
            await until(lambda: _pids(docker_daemon, hurt, 1, 6))
            assert await _answers(client, victim)
            before = _throttled(await _stats(docker_daemon, hurt))
            async with neighbours.during("CPU hog"):
                # Where others leave it less than its quota there is nothing to hold back: then again.
                await until(lambda: _is_held_back(docker_daemon, hurt, before))
            async with neighbours.during("memory hog, the agent"):
                await _swell(client, victim)
                await _told(client, victim, "session.failed")
        print(f"\n{neighbours.report()}")  # shown with -s
        assert neighbours.harm() == [], neighbours.report()
        line = next(each for each in gateway.lines if "want of memory" in each["message"])
        assert (line["level"], line["session_id"], line["operation"]) == ("WARNING", victim.session_id, "watch")
        assert await gateway.stop() == 0
    await _in(docker_daemon, other, MEMORY_HOG)  # while no gateway looks
    async with process.serving(data_dir, settings) as again, again.client() as client:
        await _told(client, others[0], "container.memory_exhausted")
        assert await _answers(client, others[0])
        assert await again.stop() == 0
    _check_log(await process.read_log(again), hurt, other)


def _check_log(log: list[RecordedEvent], hurt: str, other: str) -> None:
    exhausted = process.payloads(log, "container.memory_exhausted")
    assert {each.container for each in exhausted} == {hurt, other}
    assert [each.container for each in exhausted].count(other) == 1, "not at each round"
    (died,) = process.payloads(log, "container.died")
    assert (died.container, died.exit_code, died.oom_killed) == (hurt, 137, True)
    (failed,) = process.payloads(log, "session.failed")
    assert failed.reason == "container_died" and "want of memory" in failed.detail
    times = [each.occurred_at.timestamp() for each in log if each.type == "container.memory_exhausted"]
    assert len(exhausted) == len(set(times))


async def _in(daemon: DockerDaemon, container: str, script: str) -> str:
    return await asyncio.to_thread(daemon.run_in, container, "python3", "-c", script)


async def _swell(client: httpx.AsyncClient, session: Session) -> None:
    """Give the agent more than it can hold; what becomes of the request is another test's matter."""
    with contextlib.suppress(httpx.HTTPError):
        await client.post(session.path("echo"), content=b"x" * (48 << 20), headers=session.headers)


async def _told(client: httpx.AsyncClient, session: Session, event: str) -> None:
    """Wait for a step in the session's progress stream, which is what a frontend sees."""
    async with asyncio.timeout(20), client.stream("GET", f"/sessions/{session.session_id}/progress") as answer:
        async for line in answer.aiter_lines():
            if line == f"event: {event}":
                return
    raise AssertionError(f"the stream ended before {event}")


async def _answers(client: httpx.AsyncClient, session: Session) -> bool:
    return (await client.get(session.path("echo"), headers=session.headers)).status_code == 200


async def _container(client: httpx.AsyncClient, session: Session) -> str:
    return str((await client.get(f"/sessions/{session.session_id}")).json()["container"])


async def _stats(daemon: DockerDaemon, container: str) -> Any:
    path = f"/containers/{container}/stats?stream=false&one-shot=true"
    return (await asyncio.to_thread(daemon.ask, "GET", path))[1]


async def _pids(daemon: DockerDaemon, container: str, least: int, most: int) -> bool:
    found = (await _stats(daemon, container))["pids_stats"]
    assert found["current"] <= found["limit"] == 24
    return bool(least <= found["current"] <= most)


async def _is_held_back(daemon: DockerDaemon, container: str, before: int) -> bool:
    assert await _in(daemon, container, CPU_HOG) == ""
    return _throttled(await _stats(daemon, container)) > before


def _throttled(stats: Any) -> int:
    return int(stats["cpu_stats"]["throttling_data"]["throttled_periods"])


def _containers(daemon: DockerDaemon) -> list[Any]:
    """Those in the session network of this test run, which nobody else uses."""
    network = daemon.settings.session_network
    found = daemon.ask("GET", "/containers/json?all=1")[1]
    return [each for each in found if network in each["NetworkSettings"]["Networks"]]
