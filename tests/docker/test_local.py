"""What is particular to local processes; what every runtime promises is in ``tests/contracts``."""

import asyncio
import os
import signal
import stat
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
import pytest

from docker import local
from docker.errors import DaemonDown, DaemonFailed, ImageMissing, NameTaken
from docker.local import LocalService
from docker.local_child import Child, free_port, is_free
from docker.local_places import UNPRIVILEGED, Places, forget, reachable
from docker.local_record import Identity, Registry
from docker.service import ContainerState, Volume
from tests.docker.local_factory import fallback, local_service
from tests.docker.local_world import contents, exists, health, info_of, processes_of, record, run, touch, until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: dropping root needs root")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[LocalService]:
    async with local_service(tmp_path) as opened:
        yield opened


async def test_a_process_sees_nothing_of_our_environment(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of the gateway, and of the person who tries it, are in ours."""
    monkeypatch.setenv("PLANTED_SECRET", "planted")
    await service.create_container("env", "echo", environment={"GIVEN": "1", "HOME": "/root"}, command=("env",))
    deaths = service.events()
    await service.start_container("env")
    await asyncio.wait_for(anext(deaths), 20)
    seen = dict(line.split("=", 1) for line in await service.logs("env"))
    assert seen.keys() == {"GIVEN", "HOME", "HOSTNAME", "LANG", "PATH", "PWD", "TMPDIR"}
    assert (seen["HOSTNAME"], seen["LANG"], seen["GIVEN"]) == ("env", "C.UTF-8", "1")
    assert seen["HOME"] != "/root"


async def test_home_and_workspace_are_its_own_and_writable(service: LocalService) -> None:
    script = 'cd "$HOME" && pwd && touch a && cd "$OLDPWD" && pwd && touch b && touch "$TMPDIR/c" && ls "$HOME" .'
    home, workspace, *listed = await run(service, "/bin/sh", "-c", script)
    assert (Path(home).name, Path(workspace).name) == ("home", "workspace")
    assert [word for word in listed if word in ("a", "b")] == ["b", "a"]
    assert not exists(home), "removed with the container"


async def test_volumes_are_home_and_workspace_and_outlive_the_container(service: LocalService) -> None:
    volumes = (Volume("data", "/home/app"), Volume("work", "/workspace/"))
    await run(service, "/bin/sh", "-c", "echo kept > $HOME/note; echo more > note", volumes=volumes)
    said = await run(service, "/bin/sh", "-c", "cat $HOME/note note", volumes=volumes, name="two")
    assert said == ["kept", "more"]
    await service.remove_volume("data")
    assert await run(service, "/bin/sh", "-c", "ls $HOME; cat note", volumes=volumes, name="three") == ["more"]


async def test_a_volume_elsewhere_is_refused(service: LocalService) -> None:
    """A process sees the machine's own file system: nothing can be put at another path."""
    with pytest.raises(DaemonFailed, match="only at /home/app and /workspace"):
        await service.create_container("one", "echo", volumes=(Volume("data", "/etc"),))
    assert await service.list_containers(all=True) == []


@pytest.mark.parametrize("what", ["container", "volume"])
async def test_a_removal_that_is_cancelled_is_not_left_at_work(
    service: LocalService, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its thread goes on: whoever made the name anew would lose files to it."""
    begun, go_on, discard = threading.Event(), threading.Event(), Places.discard

    def slowly(places: Places, directory: Path) -> None:
        begun.set()
        assert go_on.wait(20)
        discard(places, directory)

    monkeypatch.setattr(Places, "discard", slowly)
    await service.create_container("one", "echo")
    removal = asyncio.create_task(
        service.remove_container("one") if what == "container" else service.remove_volume("data")
    )
    assert await asyncio.to_thread(begun.wait, 20)
    removal.cancel()
    assert await asyncio.wait([removal], timeout=0.05) == (set(), {removal})
    go_on.set()
    await asyncio.wait([removal])
    assert removal.cancelled()
    assert (await service.get_container_info("one") is None) == (what == "container"), "all of it"


async def test_a_volume_in_use_is_not_removed(service: LocalService) -> None:
    await service.create_container("one", "echo", volumes=(Volume("data", "/home/app"),))
    with pytest.raises(DaemonFailed, match="in use by one"):
        await service.remove_volume("data")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a\n"])
async def test_a_name_that_is_a_path_is_refused(service: LocalService, name: str) -> None:
    with pytest.raises(DaemonFailed, match="not a name"):
        await service.create_container(name, "echo")
    with pytest.raises(DaemonFailed, match="not a name"):
        await service.create_container("one", "echo", volumes=(Volume(name, "/home/app"),))
    await service.remove_volume(name)


async def test_an_unknown_image_names_those_there_are(service: LocalService) -> None:
    with pytest.raises(ImageMissing, match=r"'ubuntu'; there are: echo"):
        await service.create_container("one", "ubuntu")


async def test_a_program_that_is_not_there_cannot_be_started(service: LocalService) -> None:
    await service.create_container("one", "echo", command=("no-such-program",))
    with pytest.raises(DaemonFailed, match="no-such-program cannot be started"):
        await service.start_container("one")
    assert (await info_of(service, "one")).state is ContainerState.CREATED


@as_root
async def test_root_is_dropped(service: LocalService) -> None:
    """No group of root's stays either: docker and disk would be as good as root."""
    script = "id -u; id -g; id -G; umask; touch ~root/x /etc/x; stat -c %u:%a $HOME"
    ours = os.getgroups()
    os.setgroups([6])
    try:
        said = await run(service, "/bin/sh", "-c", script)
    finally:
        os.setgroups(ours)
    assert said[:4] == [str(UNPRIVILEGED)] * 3 + ["0077"]
    assert said[-1] == f"{UNPRIVILEGED}:700"
    assert sum("Permission denied" in line for line in said) == 2


@as_root
async def test_what_the_user_cannot_reach_is_copied_for_him(tmp_path: Path) -> None:
    """A fetched agent lies in a cache of root's; the state directory is closed too, and says where things are."""
    program = tmp_path / "closed" / "agent.sh"
    program.parent.mkdir(mode=0o700)
    program.write_text("#!/bin/sh\necho ran as $(id -u)\n")
    program.chmod(0o755)
    assert not reachable(program)
    async with local_service(tmp_path / "state", {"agent": (str(program), "{port}")}) as service:
        await service.create_container("one", "agent")
        deaths = service.events()
        await service.start_container("one")
        await asyncio.wait_for(anext(deaths), 20)
        assert await service.logs("one") == [f"ran as {UNPRIVILEGED}"]
    base = msgspec.json.decode((tmp_path / "state" / "local.json").read_bytes())["base"]
    assert os.path.dirname(base) == str(fallback())
    assert stat.S_IMODE(os.stat(base).st_mode) == 0o711
    forget(tmp_path / "state")
    forget(tmp_path / "state")
    assert not exists(base)


async def test_the_echo_agent_serves_on_loopback(service: LocalService, tmp_path: Path) -> None:
    await service.create_container("one", "echo")
    await service.start_container("one")
    assert await health(service, "one") == 200
    info = await info_of(service, "one")
    assert info.address is not None
    assert info.address.host == "127.0.0.1"
    (process,) = processes_of(tmp_path, "one")
    assert {connection.laddr.ip for connection in process.net_connections() if connection.status == "LISTEN"} == {
        "127.0.0.1"
    }
    assert process.uids().effective == (UNPRIVILEGED if os.geteuid() == 0 else os.geteuid())


async def test_a_lost_race_for_the_port_is_run_again(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our look and its bind another process may take the port."""
    taker = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    taken = taker.sockets[0].getsockname()[1]
    ports = [taken, free_port()]
    monkeypatch.setattr(local, "free_port", lambda: ports.pop(0))
    await service.create_container("one", "echo")
    await service.start_container("one")
    await until(lambda: not ports)
    assert await health(service, "one") == 200
    taker.close()
    await taker.wait_closed()


async def test_an_agent_that_fails_by_itself_is_not_run_again(service: LocalService) -> None:
    said = await run(service, "/bin/sh", "-c", "echo once; exit 3")
    assert said == ["once"]


async def test_a_death_is_told_with_the_time_that_is_recorded(service: LocalService) -> None:
    """Two observers must name the one fact alike; a reader misses nothing after ``events()`` was called."""
    deaths = service.events()
    made = await service.create_container("one", "echo", labels={"a": "b"}, command=("/bin/sh", "-c", "kill -9 $$"))
    await service.start_container(made.id)
    death = await asyncio.wait_for(anext(deaths), 20)
    info = await info_of(service, "one")
    assert (death.container_id, death.name, death.kind, death.labels) == (made.id, "one", "die", {"a": "b"})
    assert death.exit_code == info.exit_code == 137
    assert info.finished_at is not None
    assert datetime.fromtimestamp(death.at_ns // 1000 / 1_000_000, UTC) == info.finished_at


@pytest.mark.parametrize("ending", ["stopped", "by itself"])
async def test_processes_that_left_the_group_end_with_their_container(
    service: LocalService, tmp_path: Path, ending: str
) -> None:
    """Terminals have a session of their own; one that lives on keeps files, and may keep the port."""
    away = "setsid sleep 300 & (setsid sh -c 'trip=1; sleep 301' &); "
    script = away + 'until [ -e "$HOME/go" ]; do sleep 0.1; done; exit 1'
    deaths = service.events()
    await service.create_container("group", "echo", command=("/bin/sh", "-c", script))
    await service.start_container("group")
    await until(lambda: len(processes_of(tmp_path, "group")) >= 4)
    started = processes_of(tmp_path, "group")
    if ending == "stopped":
        await service.stop_container("group")
    else:
        touch(started[0].environ()["HOME"], "go")
    await asyncio.wait_for(anext(deaths), 20)
    assert processes_of(tmp_path, "group") == []
    assert [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


async def test_leaving_stops_everything_and_ends_the_readers(tmp_path: Path) -> None:
    async with local_service(tmp_path) as service:
        assert await service.ping()
        deaths = service.events()
        for name in ("one", "two"):
            await service.create_container(name, "echo")
            await service.start_container(name)
    assert not await service.ping()
    assert processes_of(tmp_path, "one") == processes_of(tmp_path, "two") == []
    assert {death.name async for death in deaths} == {"one", "two"}
    with pytest.raises(DaemonDown, match="not open"):
        await service.list_containers()


async def test_only_who_was_given_the_environment_can_start(tmp_path: Path) -> None:
    """It holds credentials and is never on disk: another gateway process must be given it, by the same create."""
    async with local_service(tmp_path) as first, local_service(tmp_path) as second:
        made = await first.create_container("one", "echo", environment={"PASSWORD": "planted-password"})
        with pytest.raises(DaemonFailed, match="another gateway process"):
            await second.start_container("one")
        with pytest.raises(NameTaken):
            await second.create_container("one", "echo", labels={"other": "1"})
        assert await second.create_container("one", "echo") == made
        await second.start_container("one")
        assert (await info_of(first, "one")).state is ContainerState.RUNNING
        kept = contents(tmp_path)
    assert len(kept) >= 2
    assert not any(b"planted-password" in content for content in kept)


async def start_gateway(state: Path) -> tuple[asyncio.subprocess.Process, int]:
    """Another gateway process that runs the container "held"; its port."""
    words = (sys.executable, "-m", "tests.docker.local_gateway", str(state), str(fallback()))
    pipe = asyncio.subprocess.PIPE
    gateway = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe)
    assert gateway.stdout is not None
    port = int(await asyncio.wait_for(gateway.stdout.readline(), 20))
    await until(lambda: not is_free(port))
    await until(lambda: len(processes_of(state, "held")) == 2)
    return gateway, port


async def test_what_a_killed_gateway_left_is_ended_and_listed(tmp_path: Path) -> None:
    """kill -9: the next start leaves no orphan and no port taken, and the log can record the container as lost."""
    gateway, port = await start_gateway(tmp_path)
    gateway.send_signal(signal.SIGKILL)
    await gateway.wait()
    assert processes_of(tmp_path, "held"), "they live on until somebody sees to it"
    async with local_service(tmp_path) as service:
        (left,) = await service.list_containers(all=True)
        assert (left.name, left.state, left.labels) == ("held", ContainerState.EXITED, {"session": "s-1"})
        assert (left.exit_code, left.address) == (None, None)
        assert left.finished_at is not None
        assert await service.list_containers() == []
        assert processes_of(tmp_path, "held") == []
        assert is_free(port)
        await service.remove_container("held")
        assert await service.list_containers(all=True) == []


async def test_the_containers_of_a_living_gateway_are_left_alone(tmp_path: Path) -> None:
    """Workers share the state directory: a second one sees and may stop what the first one runs."""
    gateway, _ = await start_gateway(tmp_path)
    async with local_service(tmp_path) as service:
        assert [info.name for info in await service.list_containers()] == ["held"]
        assert await health(service, "held") == 200
        await service.stop_container("held")
        info = await info_of(service, "held")
        assert (info.state, info.exit_code) == (ContainerState.EXITED, 143)
    gateway.send_signal(signal.SIGKILL)
    await gateway.wait()


async def test_a_later_process_with_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    """After a reboot the recorded pid may be anybody's."""
    other = await asyncio.create_subprocess_exec("sleep", "300")
    places = Places.prepare(tmp_path, None, tmp_path)
    gone = Identity(other.pid, 1.0)
    Registry(places.registry).add(record("old", owner=gone, child=gone, port=1))
    async with local_service(tmp_path) as service:
        (left,) = await service.list_containers(all=True)
        assert (left.id, left.state) == ("id-old", ContainerState.EXITED)
        await service.remove_container("old", force=True)
    assert psutil.Process(other.pid).is_running()
    other.kill()
    await other.wait()


async def test_an_orphan_is_found_though_its_start_was_never_written_down(tmp_path: Path) -> None:
    """The gateway was killed between the start and the record: only the mark in the environment leads to it."""
    places = Places.prepare(tmp_path, None, tmp_path)
    marks = {"HOSTNAME": "unwritten", "HOME": "/nowhere", "PATH": os.environ["PATH"], "PWD": "/"}
    child = Child.start(("sleep", "300"), marks, user=None, log=tmp_path / "log")
    ended = asyncio.create_task(child.end())
    Registry(places.registry).add(record("unwritten", Identity(1 << 22, 1.0), state=ContainerState.CREATED))
    async with local_service(tmp_path) as service:
        assert await asyncio.wait_for(ended, 10) == 143
        assert (await info_of(service, "unwritten")).state is ContainerState.CREATED
