"""Folders of the host: made for one user alone, and refused wherever somebody else could put another in their place."""

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from docker import host_dirs
from docker.errors import HostDirRefused
from docker.host_dir_marks import file_of

ROOT_USER = os.geteuid() == 0
UID, GID = (1000, 1000) if ROOT_USER else (os.geteuid(), os.getegid())
USER = f"{UID}:{GID}"
WHOSE = "log ada"
as_root = pytest.mark.skipif(not ROOT_USER, reason="NOT TESTED: only root can give a folder away")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "workspaces"
    made.mkdir(mode=0o700)
    return made


def theirs(folder: Path, mode: int = 0o700) -> Path:
    """A folder as an operator would make it for sessions."""
    folder.mkdir()
    folder.chmod(mode)
    os.chown(folder, UID, GID)
    return folder


def refusal(root: Path | str, name: str = "work", user: str = USER) -> str:
    """What both the look beforehand and the taking say."""
    said = []
    for attempt in (host_dirs.check, host_dirs.prepare):
        with pytest.raises(HostDirRefused) as raised:
            attempt(str(root), name, user, WHOSE)
        said.append(str(raised.value))
    assert said[0] == said[1]
    return said[0]


def test_a_folder_is_made_for_its_owner_alone(root: Path) -> None:
    """Also in a root that gives its group to what is made in it."""
    root.chmod(0o2750)
    host_dirs.check(str(root), "work", USER, WHOSE)
    assert list(root.iterdir()) == [], "looking makes nothing"
    folder = host_dirs.prepare(str(root), "work", USER, WHOSE)
    found = (root / "work").stat()
    assert folder == host_dirs.Folder(str(root / "work"), found.st_dev, found.st_ino)
    assert (stat.S_IMODE(found.st_mode) & 0o777, found.st_uid) == (0o700, UID)
    assert {each.name for each in root.iterdir()} == {"work", file_of("work")}


def test_a_folder_that_is_there_is_taken_with_what_is_in_it(root: Path) -> None:
    theirs(root / "work")
    first = host_dirs.prepare(str(root), "work", USER, WHOSE)
    (root / "work" / "note").write_text("kept")
    assert host_dirs.prepare(str(root), "work", USER, WHOSE) == first
    assert (root / "work" / "note").read_text() == "kept"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../etc",
        "a/b",
        "/etc",
        "a/../..",
        ".hidden",
        "-rf",
        "_x",
        "a b",
        "a\n",
        "a\0",
        "ä",
        "x" * 65,
        "~",
    ],
)
def test_a_name_is_one_plain_component(root: Path, name: str) -> None:
    assert not host_dirs.is_name(name)
    assert "1 to 64 letters" in refusal(root, name)


def test_names_that_people_give_are_names() -> None:
    assert all(host_dirs.is_name(name) for name in ("a", "x" * 64, "ada.lovelace", "2026-01_report", "A..B"))


def link(root: Path, target: Path) -> None:
    (root / "work").symlink_to(target)


@pytest.mark.parametrize("target", ["/etc", "elsewhere", "neighbour", "nowhere"])
def test_a_symbolic_link_is_not_followed(root: Path, tmp_path: Path, target: str) -> None:
    """Wherever it leads: out of the root, to another session's folder, or to nothing yet."""
    theirs(tmp_path / "elsewhere")
    theirs(root / "neighbour")
    link(root, {"elsewhere": tmp_path / "elsewhere"}.get(target, root / target if target[0] != "/" else Path(target)))
    assert "a symbolic link, or no directory" in refusal(root)


@pytest.mark.parametrize("make", [lambda path: path.touch(), lambda path: os.mkfifo(path)], ids=["file", "pipe"])
def test_what_is_no_directory_is_refused(root: Path, make: Callable[[Path], None]) -> None:
    make(root / "work")
    assert "a symbolic link, or no directory" in refusal(root)


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o701, 0o500, 0])
def test_an_agent_cannot_lock_itself_out(root: Path, mode: int) -> None:
    """It owns the folder and may change its mode; the next session has it as it was made."""
    theirs(root / "work", mode)
    host_dirs.check(str(root), "work", USER, WHOSE)
    assert stat.S_IMODE((root / "work").stat().st_mode) == mode, "looking changes nothing"
    host_dirs.prepare(str(root), "work", USER, WHOSE)
    assert stat.S_IMODE((root / "work").stat().st_mode) == 0o700


@as_root
def test_a_mode_that_is_not_ours_to_mend_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs(root / "work", 0o755)
    monkeypatch.setattr(os, "geteuid", lambda: UID + 5)
    assert "chmod 700" in refusal(root)


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o704])
def test_a_root_that_everybody_can_enter_is_refused(root: Path, mode: int) -> None:
    """An agent leaves a setuid program of its user there, and opens its folder: any user of the machine runs it."""
    root.chmod(mode)
    assert "can be entered by everybody" in refusal(root)
    root.chmod(0o750)
    host_dirs.prepare(str(root), "work", USER, WHOSE)


@as_root
def test_a_folder_of_another_owner_is_refused(root: Path) -> None:
    os.chown(theirs(root / "work"), 1001, 1001)
    assert "belongs to uid 1001, and sessions run as 1000" in refusal(root)
    assert "belongs to uid 1001" in refusal(root, user="1002:1002")


def test_a_gateway_that_cannot_give_a_folder_away_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither root nor the user that sessions run as; a folder that an operator made will do."""
    other = os.geteuid() + 5
    theirs(root / "made")
    if not ROOT_USER:
        assert "can make no folder" in refusal(root, user=f"{other}:{other}")
        return
    monkeypatch.setattr(os, "geteuid", lambda: other)
    said = refusal(root)
    assert f"runs as uid {other} and can make no folder for sessions, which run as 1000" in said
    assert host_dirs.prepare(str(root), "made", USER, WHOSE).path == str(root / "made")


@pytest.mark.parametrize("given", ["workspaces", "/", "", "/srv/../etc", "/srv//x", "/srv/x/", "./x"])
def test_the_root_is_a_plain_absolute_path(given: str) -> None:
    assert host_dirs.root_problem(given)
    assert "plain absolute path" in refusal(given)
    assert host_dirs.root_problem("/srv/workspaces") is None


def test_the_root_must_be_there(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "absent")
    (tmp_path / "file").touch()
    assert "no directory" in refusal(tmp_path / "file")


def test_no_link_leads_to_the_root(root: Path, tmp_path: Path) -> None:
    """A link can be bent by whoever may write beside it; the real path is checked part by part."""
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "up").symlink_to(tmp_path)
    for bent in (tmp_path / "link", tmp_path / "up" / "workspaces"):
        assert "give its real path" in refusal(bent)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_root_that_others_can_change_is_refused(root: Path, mode: int) -> None:
    root.chmod(mode)
    # A sticky one is shared on purpose, as /tmp is: changing it would break the machine.
    assert ("take a folder elsewhere" if mode == 0o1777 else "chmod go-w") in refusal(root)


def test_a_parent_that_others_can_change_is_refused(tmp_path: Path) -> None:
    """They could move the root aside and put theirs in its place; in a sticky directory they cannot."""
    parent = tmp_path / "parent"
    (parent / "workspaces").mkdir(parents=True)
    (parent / "workspaces").chmod(0o700)
    parent.chmod(0o777)
    assert "can be changed by others: take a folder elsewhere" in refusal(parent / "workspaces")
    parent.chmod(0o1777)
    host_dirs.prepare(str(parent / "workspaces"), "work", USER, WHOSE)


@as_root
def test_a_root_within_what_a_session_owns_is_refused(root: Path) -> None:
    """The agent there could replace it: folders never lie in one another."""
    inner = theirs(root / "work") / "workspaces"
    inner.mkdir()
    assert "belongs to uid 1000" in refusal(inner)


def test_a_folder_that_was_replaced_is_noticed(root: Path) -> None:
    folder = host_dirs.prepare(str(root), "work", USER, WHOSE)
    host_dirs.verify(folder)
    (root / "work").rename(root / "aside")
    for replace in (lambda: theirs(root / "work"), lambda: (root / "work").rmdir(), lambda: link(root, root / "aside")):
        replace()
        with pytest.raises(HostDirRefused):
            host_dirs.verify(folder)


def test_a_probe_is_a_name_that_nobody_can_guess_and_goes(root: Path) -> None:
    with host_dirs.probe(str(root)) as one, host_dirs.probe(str(root)) as other:
        assert one != other and Path(one).is_dir() and Path(one).parent == root
        assert not host_dirs.is_name(Path(one).name), "no session can ask for it"
    assert list(root.iterdir()) == []


def test_what_killed_gateways_left_is_swept(root: Path) -> None:
    """Old and empty ones alone: a young one may be in use, and nothing with something in it is ours to judge."""
    for name, age in ((".probe-1", 4000), (".new-1", 4000), (".probe-2", 10), (".new-full", 4000), (".other", 4000)):
        (root / name).mkdir()
        if name == ".new-full":
            (root / name / "note").touch()
        then = time.time() - age
        os.utime(root / name, (then, then))
    with host_dirs.probe(str(root)):
        pass
    left = {".probe-2", ".new-full", ".other"}
    assert {each.name for each in root.iterdir()} == left


def test_a_file_system_that_folds_case_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two names, two sessions, one folder. Such a file system is not at hand: one that answers as it does is."""
    theirs(root / "work")
    real = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, mode=0o777, *, dir_fd=None: real(
            "work" if path == "WORK" else path, flags, mode, dir_fd=dir_fd
        ),
    )
    assert "upper from lower case" in refusal(root)


@as_root
@pytest.mark.parametrize("mount", ["-t tmpfs -o mode=700,uid=1000 none", "--bind"], ids=["tmpfs", "bind"])
def test_a_mount_at_the_folder_is_refused(root: Path, mount: str) -> None:
    """The proof is of the root: what is mounted below may be there for us and not for the daemon, or the other way."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--mount", "true"], check=False).returncode:
        pytest.skip("NOT TESTED: no mount namespace can be made here")
    source = f'"{theirs(root / "other")}"' if mount == "--bind" else ""
    theirs(root / "work")
    asked = f"from docker import host_dirs; host_dirs.prepare({str(root)!r}, 'work', {USER!r}, 'ada')"
    shell = f'mount {mount} {source} "{root / "work"}" && exec "$0" -c "$1"'
    done = subprocess.run(
        [unshare, "--mount", "sh", "-c", shell, sys.executable, asked], capture_output=True, text=True, check=False
    )
    assert "HostDirRefused: A file system is mounted at the folder" in done.stderr, done.stderr
    host_dirs.check(str(root), "work", USER, WHOSE)
