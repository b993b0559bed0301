"""The archives are the releases that they name, and one number is the product's wherever it stands."""

import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from events.schema_plan import is_later, read
from gateway import RELEASE
from tests.releases.products import FOLDER, RELEASED, ROOT
from tools import release_archive


def test_product_has_one_number() -> None:
    """pyproject.toml, the gateway that tells it, and the SQL that databases remember."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == RELEASE
    assert read().manifest.release == RELEASE
    assert not is_later(read().manifest.oldest, RELEASE)


def test_every_former_release_is_kept_and_this_one_is_later() -> None:
    assert "0.1.0" in RELEASED
    assert not [number for number in RELEASED if not is_later(RELEASE, number)]


@pytest.mark.parametrize("number", RELEASED)
def test_archive_is_of_the_release_that_it_names(number: str) -> None:
    with zipfile.ZipFile(FOLDER / f"{number}.zip") as archive:
        roots = {name.partition("/")[0] for name in archive.namelist()}
        told = archive.read("gateway/__init__.py").decode()
    assert roots == set(release_archive.CONTENT)
    assert re.search(r'RELEASE: Final = "(.*)"', told) and f'"{number}"' in told
    assert (FOLDER / f"{number}.zip").stat().st_size < 600_000


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_release_is_archived_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made anew, it could agree with any mistake."""
    for name in release_archive.CONTENT:
        path = tmp_path / name / "file.txt" if "." not in name else tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "sql" / "release.toml").write_text('release = "7.8.9"\noldest = "7.8.8"\n')
    (tmp_path / "tests" / "releases").mkdir(parents=True)
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "A release")):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert release_archive.main([], tmp_path) == 0
    made = tmp_path / "tests" / "releases" / "7.8.9.zip"
    with zipfile.ZipFile(made) as archive:
        assert archive.read("events/file.txt") == b"events"
    former = made.read_bytes()
    assert release_archive.main(["HEAD"], tmp_path) == 1
    assert made.read_bytes() == former
    assert "7.8.9.zip is there already" in capsys.readouterr().err
