"""Where local containers keep what is theirs: found again, said when it cannot be made, removed whole."""

import stat
from pathlib import Path

import pytest

from docker.errors import DaemonFailed
from docker.local_places import Places, choose_base


def test_a_place_once_chosen_is_kept(tmp_path: Path) -> None:
    """Else the conversations of yesterday are gone when the directory is opened, or the gateway runs as another."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert choose_base(closed, None, tmp_path / "elsewhere") == closed
    base = choose_base(closed, 12345, tmp_path / "elsewhere")
    assert base.parent == tmp_path / "elsewhere"
    assert choose_base(closed, None, tmp_path / "third") == base


def test_a_state_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DaemonFailed, match="cannot keep its directories"):
        Places.prepare(tmp_path / "file" / "state", None, tmp_path)


def test_what_a_container_made_read_only_is_removed_all_the_same(tmp_path: Path) -> None:
    """Module caches are; links in there are removed, not followed."""
    places = Places.prepare(tmp_path / "state", None, tmp_path)
    inner = places.volumes / "data" / "mod"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (places.volumes / "data" / "link").symlink_to(outside)
    inner.chmod(0o500)
    places.discard(places.volumes / "data")
    places.discard(places.volumes / "data")
    assert not (places.volumes / "data").exists()
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500
