"""Python and its packages as an image has them: what is pinned, as it is installed, and nothing of a developer's."""

from pathlib import Path

import pytest

from docker.errors import ImageUnbuildable
from docker.python_files import PACKAGES, add_packages, add_python, pinned
from docker.rootfs import RootFilesystem

ROOT = Path(__file__).resolve().parents[2]


def lock(folder: Path, *lines: str) -> Path:
    (folder / "some.lock").write_text("# comment\n" + "\n".join(f"{line} \\\n    --hash=sha256:00" for line in lines))
    return folder / "some.lock"


def test_the_products_lock_is_installed() -> None:
    names = pinned(ROOT / "requirements.lock")
    assert {"starlette", "hypercorn", "asyncpg", "msgspec"} <= set(names)
    assert "colorama" not in names, "for another system"
    assert "pytest" not in names


@pytest.mark.parametrize("line", ["msgspec==0.0.1", "no-such-package==1.0"])
def test_what_is_not_as_pinned_is_refused(tmp_path: Path, line: str) -> None:
    """An image of other versions would be one that nobody tested."""
    with pytest.raises(ImageUnbuildable, match=r"some\.lock pins .* make venv"):
        pinned(lock(tmp_path, line))


def test_a_package_for_another_system_is_passed_over(tmp_path: Path) -> None:
    assert pinned(lock(tmp_path, "no-such-package==1.0 ; sys_platform == 'win32'")) == []


def test_a_package_comes_with_its_libraries_and_without_sources(tmp_path: Path) -> None:
    files = RootFilesystem()
    add_packages(files, lock(tmp_path, *installed("asyncpg", "hypercorn", "msgspec")), without=frozenset({"msgspec"}))
    found = files.paths()
    assert f"{PACKAGES}/asyncpg/pool.py" in found
    assert any(path.endswith(".so") for path in found)
    assert any(path.endswith("/libc.so.6") for path in found), "what its compiled modules load"
    assert not any(path.endswith((".c", ".pyx", ".pyi", "/RECORD")) or "pytest" in path for path in found)
    assert not any("/bin/" in path or "msgspec" in path for path in found)
    assert any(path.endswith("dist-info/METADATA") for path in found), "entry points are found by it"


def test_the_interpreter_comes_with_its_library() -> None:
    files = RootFilesystem()
    add_python(files)
    found = files.paths()
    assert {"/usr/bin/python3", f"{PACKAGES.removesuffix('/site-packages')}/asyncio/__init__.py"} <= found
    assert not any("/site-packages/" in path or "/ensurepip/" in path for path in found)


def installed(*names: str) -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in names]
