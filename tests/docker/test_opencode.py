"""OpenCode is fetched once, and used only when it is the very package that was pinned."""

import io
import platform
import tarfile
from pathlib import Path

import pytest

from docker import opencode
from docker.errors import ImageUnbuildable

SHA512_OF_NOTHING = "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def tarball(folder: Path, member: str) -> Path:
    path = folder / f"opencode-linux-x64-{opencode.VERSION}.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    return path


def pin(monkeypatch: pytest.MonkeyPatch, integrity: str) -> None:
    monkeypatch.setitem(opencode._PACKAGES, "x86_64", ("opencode-linux-x64", integrity))


def integrity_of(path: Path) -> str:
    with pytest.raises(ImageUnbuildable) as caught:
        opencode.check_integrity(path, "sha512-none")
    return str(caught.value).partition("(")[2].partition(")")[0]


def test_the_pinned_hash_is_compared(tmp_path: Path) -> None:
    (tmp_path / "p.tgz").touch()
    opencode.check_integrity(tmp_path / "p.tgz", f"sha512-{SHA512_OF_NOTHING}")
    (tmp_path / "p.tgz").write_text("more")
    with pytest.raises(ImageUnbuildable, match="not the package that was pinned"):
        opencode.check_integrity(tmp_path / "p.tgz", f"sha512-{SHA512_OF_NOTHING}")


def test_a_tarball_at_hand_is_unpacked_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a way to npm is given the file; what is unpacked once is not looked for again."""
    monkeypatch.setenv("PATH", "")
    given = tarball(tmp_path, "package/bin/opencode")
    pin(monkeypatch, integrity_of(given))
    program = opencode.fetch(tmp_path, lambda _: None)
    assert program.stat().st_mode & 0o777 == 0o755
    given.unlink()
    assert opencode.fetch(tmp_path, lambda _: None) == program
    assert [path.name for path in tmp_path.iterdir()] == [f"opencode-{opencode.VERSION}"]


def test_a_tarball_that_was_changed_is_not_unpacked(tmp_path: Path) -> None:
    tarball(tmp_path, "package/bin/opencode")
    with pytest.raises(ImageUnbuildable, match="pinned"):
        opencode.fetch(tmp_path, lambda _: None)
    assert not list(tmp_path.rglob("opencode"))


def test_a_tarball_without_the_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, integrity_of(tarball(tmp_path, "package/readme")))
    with pytest.raises(ImageUnbuildable, match="holds no program"):
        opencode.fetch(tmp_path, lambda _: None)


def test_without_npm_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImageUnbuildable, match="npm is not on the PATH"):
        opencode.fetch(tmp_path, lambda _: None)


def test_a_machine_without_a_pinned_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ImageUnbuildable, match="riscv64"):
        opencode.fetch(tmp_path, lambda _: None)
