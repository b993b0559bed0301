"""Which folder is a session's, and how it is shown that the runtime means the same one."""

import asyncio
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from docker import names
from docker.errors import DaemonDown, HostDirRefused
from docker.mock import MockDockerService
from docker.settings import DockerSettings
from events.envelope import session_stream
from events.keyring import MemoryKeyring
from events.sealing import Place, seal
from gateway.sessions.folders import PROOF_SECONDS, Folders
from projections.session_state import SessionState

USER = "1000:1000" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"

SOMEBODYS = SessionState(session_id="s1", opened_by="key")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "workspaces"
    made.mkdir(mode=0o700)
    return made


class Made:
    """Folders on a mock runtime."""

    def __init__(self, root: Path | str, secret: bytes = b"s", images: set[str] | None = None) -> None:
        self.docker, self.keyring = MockDockerService(images=images), MemoryKeyring()
        settings = DockerSettings(host_dir_root=str(root), container_user=USER)
        self.now = 0.0
        self.folders = Folders(
            self.docker, self.keyring, settings, secret, image="echo", owner="log", clock=lambda: self.now
        )

    def calls(self) -> list[str]:
        return [call for call, _ in self.docker.calls]

    async def session(self, name: str) -> SessionState:
        place = Place(session_stream("s1"), "session.requested", "host_dir")
        return SessionState(session_id="s1", host_dir=seal(await self.keyring.key_for("ada"), name, place))


def test_a_mac_tells_names_apart_for_those_with_the_secret(root: Path) -> None:
    """The same on every gateway of the log; without its secret nobody can try names."""
    one, same, other = Made(root).folders, Made(root).folders, Made(root, b"t").folders
    assert one.mac("ada") == same.mac("ada")
    assert len({one.mac("ada"), one.mac("Ada"), one.mac("bob"), other.mac("ada")}) == 4


async def test_a_proof_leaves_nothing_and_starts_nothing(root: Path) -> None:
    made = Made(root)
    await made.folders.prove()
    assert [call for call, _ in made.docker.calls] == ["create", "remove"]
    assert os.listdir(root) == [] and await made.docker.list_containers(all=True) == []


async def test_a_flood_of_requests_is_one_proof(root: Path) -> None:
    """Those that ask at once share it, those that ask within seconds need none: a boot, above all."""
    made = Made(root)
    await asyncio.gather(*(made.folders.prove() for _ in range(20)))
    made.now = PROOF_SECONDS - 0.1
    await made.folders.prove()
    assert made.calls() == ["create", "remove"]
    made.now = PROOF_SECONDS
    await made.folders.prove()
    assert made.calls() == ["create", "remove"] * 2


async def test_a_refusal_is_not_kept(root: Path) -> None:
    made = Made(root)
    made.docker.sees_host = False
    said = await asyncio.gather(*(made.folders.prove() for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in said] == [HostDirRefused] * 3
    made.docker.sees_host = True
    await made.folders.prove()


@pytest.mark.parametrize("step", ["create_container", "remove_container"])
async def test_who_leaves_leaves_no_container(root: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Cut off in the middle, and nobody asks again: the proof ends by itself."""
    made = Made(root)
    real, reached, go_on = getattr(made.docker, step), asyncio.Event(), asyncio.Event()

    async def slow(*given: object, **named: object) -> object:
        reached.set()
        await go_on.wait()
        return await real(*given, **named)

    monkeypatch.setattr(made.docker, step, slow)
    before = asyncio.all_tasks()
    asking = asyncio.create_task(made.folders.prove())
    await reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    await asyncio.gather(*(asyncio.all_tasks() - before))
    assert await made.docker.list_containers(all=True) == [] and os.listdir(root) == []


async def test_a_probe_that_is_left_carries_our_label(root: Path) -> None:
    """Killed, or cut off, before it could be removed: reconciliation finds what is ours and nobody's."""
    made = Made(root)
    made.docker.fail_next("remove", DaemonDown("away"))
    await made.folders.prove()
    (left,) = await made.docker.list_containers(all=True, labels=names.owned_by("log"))
    assert left.labels[names.SESSION] == ""


async def test_a_runtime_that_sees_other_files_is_refused_and_left_clean(root: Path) -> None:
    made = Made(root)
    made.docker.sees_host = False
    for attempt in (made.folders.prove(), made.folders.check("ada", SOMEBODYS), made.folders.take("ada", SOMEBODYS)):
        with pytest.raises(HostDirRefused, match="does not see the folder"):
            await attempt
    assert os.listdir(root) == [], "nothing is made where it would not be seen"


async def test_what_cannot_be_shown_is_refused(root: Path) -> None:
    """No image, no container to ask with; and a daemon that is away is that, and no refusal."""
    with pytest.raises(HostDirRefused, match="cannot be shown: The image echo"):
        await Made(root, images=set()).folders.prove()
    made = Made(root)
    made.docker.go_down()
    with pytest.raises(DaemonDown):
        await made.folders.prove()
    assert os.listdir(root) == []


async def test_without_the_setting_nothing_is_asked() -> None:
    made = Made("")
    with pytest.raises(HostDirRefused, match="HOST_DIR_ROOT is not set"):
        await made.folders.check("ada", SOMEBODYS)
    assert (made.docker.calls, await made.folders.notes(), made.folders.offered) == ([], (), False)


async def test_a_sessions_folder_is_the_one_it_was_opened_with(root: Path) -> None:
    made = Made(root)
    state = await made.session("ada")
    folder = await made.folders.of(state)
    assert folder is not None and folder.path == str(root / "ada")
    assert await made.folders.of(SessionState(session_id="s2")) is None
    await made.keyring.erase("ada")
    with pytest.raises(HostDirRefused, match="erased with the session's owner"):
        await made.folders.of(state)


async def test_a_damaged_name_is_a_folder_that_is_refused(root: Path) -> None:
    """Else the session would be tried again each round for ever, and keep its seat."""
    made = Made(root)
    state = await made.session("ada")
    moved = replace(state, session_id="s2")  # sealed for another place
    with pytest.raises(HostDirRefused, match="cannot be read"):
        await made.folders.of(moved)


async def test_the_end_waits_for_a_proof_under_way(root: Path) -> None:
    made = Made(root)
    asked = asyncio.create_task(made.folders.prove())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await made.folders.aclose()
    await asked
    assert await made.docker.list_containers(all=True) == []


async def test_the_operator_is_told_why_none_will_work(root: Path) -> None:
    made = Made(root / "absent")
    (note,) = await made.folders.notes()
    assert "NO SESSION WILL HAVE A host_dir" in note and "does not exist" in note
