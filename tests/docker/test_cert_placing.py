"""Files that change together: at every call that replaces them a reader finds one set of them, whole."""

import fcntl
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker.cert_placing import NewInPlace, alone, place
from docker.errors import BadCertificateFiles
from tests.docker.steps import Steps, until_done

FORMER = {"ca.pem": b"former ca", "client-cert.pem": b"former", "client-key.pem": b"former key"}
NEWER = {"client-cert.pem": b"newer", "client-key.pem": b"newer key", "extra-key.pem": b"newer extra"}


def furnish(folder: Path) -> Path:
    with alone(folder, make=True):
        place(folder, FORMER)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.pem") if path.exists()}


def replace(folder: Path) -> None:
    with alone(folder):
        place(folder, NEWER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path / "certs")


def test_files_are_replaced_and_the_others_are_the_same(folder: Path) -> None:
    kept = (folder / "ca.pem").stat()
    replace(folder)
    assert contents(folder) == FORMER | NEWER
    after = (folder / "ca.pem").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (kept.st_ino, kept.st_mtime_ns, kept.st_ctime_ns)


def test_nothing_but_plain_files_is_left(folder: Path) -> None:
    """They are copied to other machines, by commands that may copy a link as a link."""
    replace(folder)
    assert {path.name for path in folder.iterdir()} == FORMER.keys() | NEWER.keys()
    assert all(stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_nlink == 1 for path in folder.iterdir())


def test_a_reader_finds_one_set_at_every_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, bytes]] = []
    with monkeypatch.context() as patch:
        steps = Steps(seen=lambda: found.append(contents(folder)))
        steps.install(patch)
        replace(folder)
    moment = found.index(FORMER | NEWER)
    assert found[:moment] == [FORMER] * moment
    assert found[moment:] == [FORMER | NEWER] * (len(found) - moment)
    assert 20 < moment < len(found)


def test_a_run_that_is_killed_anywhere_leaves_one_set(folder: Path) -> None:
    """The next run makes plain files of it, of the set that was to be read, and leaves nothing else."""

    def start_anew() -> None:
        shutil.rmtree(folder)
        furnish(folder)

    def is_whole() -> None:
        found = contents(folder)
        assert found in (FORMER, FORMER | NEWER)
        with alone(folder):
            assert contents(folder) == found
        assert {path.name for path in folder.iterdir()} == found.keys()
        assert all(stat.S_ISREG(path.lstat().st_mode) for path in folder.iterdir())

    assert until_done(lambda: replace(folder), start_anew, is_whole) > 40


def test_a_tidying_up_that_is_killed_anywhere_is_done_by_the_next(folder: Path) -> None:
    def leave_half() -> None:
        shutil.rmtree(folder)
        furnish(folder)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("docker.cert_placing.settle", lambda _: None)
            patch.setattr("docker.cert_placing._turn", _interrupted)
            with alone(folder):
                place(folder, NEWER)
        assert (folder / "client-key.pem").is_symlink()

    def is_former() -> None:
        assert contents(folder) == FORMER

    def tidy() -> None:
        with alone(folder):
            pass

    assert until_done(tidy, leave_half, is_former) > 10
    is_former()
    assert {path.name for path in folder.iterdir()} == FORMER.keys()


def _interrupted(_: Path) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("call", ["link", "symlink", "replace", "fsync", "mkdir"])
def test_a_disk_that_fails_leaves_the_former_files(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    real, left = getattr(os, call), [1]

    def failing(*arguments: object, **named: object) -> object:
        if left.pop() if left else 0:
            raise OSError(28, "No space left on device")
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(BadCertificateFiles, match="No space left on device"):
        replace(folder)
    assert contents(folder) == FORMER
    assert {path.name for path in folder.iterdir()} == FORMER.keys()


@pytest.mark.parametrize("lasts", [False, True])
def test_a_failure_at_any_call_says_which_files_are_in_use(folder: Path, lasts: bool) -> None:
    """Of one call, or of all from it on: an operator who is told of the former ones must find the former ones."""
    said = set[bool]()
    for failing in itertools.count(1):
        shutil.rmtree(folder)
        furnish(folder)
        calls = itertools.count(1)

        def fail(failing: int = failing, calls: Iterator[int] = calls) -> None:
            number = next(calls)
            if number == failing or (lasts and number > failing):
                raise OSError(5, "Input/output error")

        try:
            with pytest.MonkeyPatch.context() as patch:
                Steps(seen=fail).install(patch)
                replace(folder)
        except BadCertificateFiles as error:
            new = isinstance(error, NewInPlace)
            assert re.search("are in place" if new else "those before stay in use|nothing was written", str(error))
            assert contents(folder) == (FORMER | NEWER if new else FORMER)
            with alone(folder):
                assert contents(folder) == (FORMER | NEWER if new else FORMER)
            said.add(new)
        else:
            break
    assert failing > 40 and said == {False, True}


def test_what_is_led_to_is_on_the_disk_before_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power at any moment leaves one set, too: nothing else can show that here."""
    steps: list[str] = []
    fsync, move, remove = os.fsync, os.replace, shutil.rmtree

    def flushed(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append(f"flush {path.relative_to(folder.parent)}")
        if path.is_file():
            assert path.read_bytes() == NEWER[path.name], "after it was written"
        fsync(descriptor)

    def moved(source: Path, target: Path) -> None:
        if target.name == "current":
            steps.append("the moment")
        elif source.name == "plain":
            steps.append("plain")
        move(source, target)

    def removed(path: Path) -> None:
        steps.append("remove")
        remove(path)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", moved)
    monkeypatch.setattr(shutil, "rmtree", removed)
    replace(folder)
    files = [f"flush certs/.change/new/{name}" for name in NEWER]
    before = [*files, "flush certs/.change/new", "flush certs", "the moment", "flush certs/.change"]
    assert steps == [*before, *["plain"] * len(NEWER), "flush certs", "remove"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_no_key_is_ever_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    """Looked at before every call, in every place of the folder, whatever the umask is."""
    modes: set[tuple[bool, int]] = set()

    def look() -> None:
        for path in tmp_path.rglob("*.pem"):
            if not path.is_symlink():
                modes.add((path.name.endswith("key.pem"), stat.S_IMODE(path.stat().st_mode)))

    former = os.umask(umask)
    try:
        with monkeypatch.context() as patch:
            Steps(seen=look).install(patch)
            folder = furnish(tmp_path / "certs")
            replace(folder)
    finally:
        os.umask(former)
    assert {mode for is_key, mode in modes if is_key} == {0o400}
    assert {mode for is_key, mode in modes if not is_key} <= {0o400, 0o444}
    assert stat.S_IMODE((folder / "ca.pem").stat().st_mode) == 0o444
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """What it leads to may be of another program, or another user."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"not ours")
    (folder / "client-key.pem").unlink()
    (folder / "client-key.pem").symlink_to(elsewhere)
    with pytest.raises(BadCertificateFiles, match="is a link"):
        replace(folder)
    assert elsewhere.read_bytes() == b"not ours"
    assert (folder / "client-cert.pem").read_bytes() == b"former"


def test_a_link_in_place_of_our_own_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_bytes(b"not ours")
    (folder / ".change").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadCertificateFiles, match="not of this program"):
        replace(folder)
    assert (tmp_path / "elsewhere" / "kept").read_bytes() == b"not ours"


def test_the_folder_may_be_reached_by_a_link(folder: Path, tmp_path: Path) -> None:
    """An operator's own choice, as /etc/docker/certs."""
    (tmp_path / "linked").symlink_to(folder)
    replace(tmp_path / "linked")
    assert contents(folder) == FORMER | NEWER


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_a_file_is_kept(folder: Path) -> None:
    """The gateway's user reads its key and nobody else does."""
    os.chown(folder / "client-key.pem", 12345, 23456)
    replace(folder)
    found = (folder / "client-key.pem").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o400)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(folder / "client-cert.pem", 4321, 23456)
    os.chown(folder / "client-key.pem", 12345, 23456)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(BadCertificateFiles, match="belongs to user 12345: run as that user, or as root"):
        replace(folder)
    assert contents(folder) == FORMER


def test_two_runs_do_not_mix(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BadCertificateFiles, match="Another run"):
            replace(folder)
    finally:
        os.close(descriptor)
    assert contents(folder) == FORMER


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadCertificateFiles, match="is not a folder"), alone(path, make=True):
            pass
    with pytest.raises(BadCertificateFiles, match=r"cannot be used.*generate-certs"), alone(tmp_path / "absent"):
        pass
    assert not (tmp_path / "absent").exists()


def test_a_folder_in_place_of_a_file_is_told(folder: Path) -> None:
    (folder / "extra-key.pem").mkdir()
    with pytest.raises(BadCertificateFiles, match="is not a file"):
        replace(folder)
    assert (folder / "client-cert.pem").read_bytes() == b"former"
