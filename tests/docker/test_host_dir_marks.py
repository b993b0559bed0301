"""Whose a folder is, told beside it: written once, compared, and never guessed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker import host_dir_marks
from docker.errors import HostDirRefused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path


@pytest.fixture
def parent(root: Path) -> Iterator[int]:
    """As ``host_dirs`` has it: no more than a handle."""
    handle = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def refusal(parent: int, whose: str) -> str:
    """What looking and taking both say."""
    said = []
    for attempt in (host_dir_marks.compare, host_dir_marks.claim):
        with pytest.raises(HostDirRefused) as raised:
            attempt(parent, "work", whose)
        said.append(str(raised.value))
    assert said[0] == said[1]
    return said[0]


def test_the_first_has_it_from_then_on(root: Path, parent: int) -> None:
    """Also when it is emptied, or removed: only an operator takes the mark away."""
    host_dir_marks.compare(parent, "work", "ada")
    assert os.listdir(root) == ["work"], "looking writes nothing"
    host_dir_marks.claim(parent, "work", "ada")
    mark = root / host_dir_marks.file_of("work")
    assert (mark.read_text(), mark.stat().st_mode & 0o777) == ("ada", 0o600)
    (root / "work" / "note").touch()
    host_dir_marks.claim(parent, "work", "ada")
    assert "somebody else's" in refusal(parent, "eve")
    (root / "work" / "note").unlink()
    (root / "work").rmdir()
    assert "somebody else's" in refusal(parent, "eve")
    assert sorted(os.listdir(root)) == [mark.name]


def test_what_lies_there_unmarked_is_nobodys_until_it_is_adopted(root: Path, parent: int) -> None:
    (root / "work" / "note").touch()
    assert "nothing says whose it is" in refusal(parent, "ada")
    (root / host_dir_marks.file_of("work")).touch()
    host_dir_marks.claim(parent, "work", "ada")
    assert "somebody else's" in refusal(parent, "eve")


def test_a_write_that_was_cut_off_leaves_no_mark(root: Path, parent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a mark would be nobody's, and an empty one anybody's."""

    def cut(handle: int) -> None:
        raise OSError("power")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", cut)
        with pytest.raises(OSError, match="power"):
            host_dir_marks.claim(parent, "work", "ada")
    assert not (root / host_dir_marks.file_of("work")).exists()
    host_dir_marks.claim(parent, "work", "ada")


def test_a_mark_that_is_no_file_of_ours_is_nobodys(root: Path, parent: int) -> None:
    os.mkfifo(root / host_dir_marks.file_of("work"))
    assert "somebody else's" in refusal(parent, "ada")


def test_a_mark_has_the_name_that_the_guide_computes(root: Path) -> None:
    assert host_dir_marks.file_of("abc") == (".owner-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
