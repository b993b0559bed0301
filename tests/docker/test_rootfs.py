"""Files gathered for an image: the same files give the same bytes, and programs bring their libraries."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from docker.errors import ImageUnbuildable
from docker.rootfs import RootFilesystem, found_program, shared_libraries


def written(files: RootFilesystem) -> bytes:
    out = io.BytesIO()
    files.write(out)
    return out.getvalue()


def members(files: RootFilesystem) -> dict[str, tarfile.TarInfo]:
    return {entry.name: entry for entry in tarfile.open(fileobj=io.BytesIO(written(files))).getmembers()}


def test_the_order_of_gathering_does_not_show(tmp_path: Path) -> None:
    """An image is known by its hash, so a second build must be the same bytes."""
    source = tmp_path / "program"
    source.write_bytes(b"x")
    first, second = RootFilesystem(), RootFilesystem()
    first.file("/b/c", b"1")
    first.file("/a", source)
    os.utime(source, (5, 5))
    second.file("/a", source)
    second.file("/b/c", b"1")
    assert written(first) == written(second)


def test_owners_modes_and_folders_are_as_asked() -> None:
    files = RootFilesystem()
    files.folder("/home/app", owner=1000)
    files.file("/home/app/x", b"hello", mode=0o600)
    files.link("/bin/sh", "busybox")
    found = members(files)
    assert (found["home/app"].uid, found["home/app"].gid, found["home/app"].isdir()) == (1000, 1000, True)
    assert (found["home"].uid, found["home"].mode) == (0, 0o755)
    assert (found["home/app/x"].mode, found["home/app/x"].size, found["home/app/x"].mtime) == (0o600, 5, 0)
    assert (found["bin/sh"].issym(), found["bin/sh"].linkname) == (True, "busybox")
    assert next(iter(found)) == "bin", "a folder comes before what is in it"


def test_a_tree_leaves_out_what_is_skipped_and_keeps_its_dates(tmp_path: Path) -> None:
    """Python takes a compiled module only when its source has the date that was noted."""
    (tmp_path / "package" / "tests").mkdir(parents=True)
    (tmp_path / "package" / "tests" / "t.py").touch()
    (tmp_path / "package" / "m.py").write_text("x = 1")
    os.utime(tmp_path / "package" / "m.py", (77.5, 77.5))
    (tmp_path / "broken").symlink_to("nowhere")
    files = RootFilesystem()
    files.tree("/lib", tmp_path, skip=lambda name: name == "tests")
    found = members(files)
    assert sorted(found) == ["lib", "lib/package", "lib/package/m.py"]
    assert found["lib/package/m.py"].mtime == 77


def test_a_program_brings_its_libraries_and_loader() -> None:
    program = found_program("sh", "")
    files = RootFilesystem()
    files.program("/bin/sh", program)
    found = members(files)
    assert found["bin/sh"].mode == 0o755
    names = {Path(name).name for name in found}
    assert "libc.so.6" in names
    assert any(name.startswith("ld-linux") for name in names)


def test_a_library_from_an_odd_place_is_put_beside_the_c_library(tmp_path: Path) -> None:
    """A Python that was built at home loads its own library by a path that an image does not have."""
    files = RootFilesystem()
    files.libraries(Path(sys.executable).resolve())
    paths = ["/" + name for name, entry in members(files).items() if entry.isfile()]
    assert [path for path in paths if not path.startswith(("/lib", "/usr/lib"))] == []


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_a_missing_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "l.c").write_text("int f(void) { return 1; }")
    (tmp_path / "m.c").write_text("int f(void); int main(void) { return f(); }")
    run = [["gcc", "-shared", "-fPIC", "-o", "libgone.so", "l.c"], ["gcc", "-o", "m", "m.c", "-L.", "-lgone"]]
    for command in run:
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "libgone.so").unlink()
    with pytest.raises(ImageUnbuildable, match=r"libgone\.so"):
        shared_libraries(tmp_path / "m")


def test_a_program_that_is_not_there_is_named_with_advice() -> None:
    with pytest.raises(ImageUnbuildable, match=r"no-such-program.*install it"):
        found_program("no-such-program", "install it")
