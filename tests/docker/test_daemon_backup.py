"""Files that are changed can be put back, whenever a run is killed."""

from pathlib import Path

import pytest

from docker import daemon_backup
from docker.daemon_backup import CERTS, CannotUndo
from tests.docker.steps import until_done

CONFIG, DROP_IN = "etc/docker/daemon.json", "etc/systemd/system/docker.service.d/x.conf"
FORMER: dict[str, bytes | None] = {
    f"{CERTS}/server-cert.pem": b"former certificate",
    f"{CERTS}/server-key.pem": b"former key",
    DROP_IN: None,
    CONFIG: b"{}",
}
NEW: dict[str, bytes | None] = {
    f"{CERTS}/server-cert.pem": b"certificate",
    f"{CERTS}/server-key.pem": b"key",
    DROP_IN: b"[Service]",
    CONFIG: b'{"hosts": []}',
}


def tree(root: Path) -> dict[str, bytes | None]:
    return {path: daemon_backup.present(root, path) for path in NEW}


def lay(root: Path, files: dict[str, bytes | None]) -> None:
    for path, content in files.items():
        if content is None:
            (root / path).unlink(missing_ok=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).unlink(missing_ok=True)
            (root / path).write_bytes(content)


def test_what_is_put_back_is_what_was_there(tmp_path: Path) -> None:
    lay(tmp_path, FORMER)
    folder = daemon_backup.back_up(tmp_path, NEW, "t")
    daemon_backup.carry_out(tmp_path, NEW)
    assert tree(tmp_path) == NEW
    assert (tmp_path / CERTS / "server-key.pem").stat().st_mode & 0o777 == 0o400
    assert folder.stat().st_mode & 0o77 == 0, "a former key lies in it"
    assert daemon_backup.newest(tmp_path) == folder
    daemon_backup.undo(tmp_path, folder)
    assert tree(tmp_path) == FORMER
    with pytest.raises(CannotUndo, match="no backup"):
        daemon_backup.newest(tmp_path)


def test_a_backup_is_never_written_over(tmp_path: Path) -> None:
    """Two runs in one second; the later one is put back first."""
    lay(tmp_path, FORMER)
    first = daemon_backup.back_up(tmp_path, NEW, "t")
    second = daemon_backup.back_up(tmp_path, NEW, "t")
    assert first != second
    assert daemon_backup.newest(tmp_path) == second


def test_what_somebody_changed_since_is_not_lost(tmp_path: Path) -> None:
    lay(tmp_path, FORMER)
    folder = daemon_backup.back_up(tmp_path, NEW, "t")
    daemon_backup.carry_out(tmp_path, NEW)
    (tmp_path / CONFIG).write_bytes(b"by hand")
    with pytest.raises(CannotUndo, match=r"daemon\.json was changed"):
        daemon_backup.undo(tmp_path, folder)
    assert tree(tmp_path) == NEW | {CONFIG: b"by hand"}
    daemon_backup.undo(tmp_path, folder, force=True)
    assert tree(tmp_path) == FORMER


def test_wherever_a_run_is_killed_a_daemon_can_start_and_all_can_be_put_back(tmp_path: Path) -> None:
    """daemon.json has hosts only when the command line has none any more; certificate and key are a pair."""
    backup = list[Path]()

    def before() -> None:
        lay(tmp_path, FORMER)
        backup[:] = [daemon_backup.back_up(tmp_path, NEW, "t")]

    def after() -> None:
        found = tree(tmp_path)
        pair = (found[f"{CERTS}/server-cert.pem"], found[f"{CERTS}/server-key.pem"])
        assert pair in ((b"former certificate", b"former key"), (b"certificate", b"key"))
        assert found[CONFIG] == FORMER[CONFIG] or [found[DROP_IN], pair[1]] == [NEW[DROP_IN], b"key"]
        daemon_backup.undo(tmp_path, backup[0])
        assert tree(tmp_path) == FORMER

    kills = until_done(lambda: daemon_backup.carry_out(tmp_path, NEW), before, after)
    assert kills > 20


def test_a_backup_of_a_killed_run_is_none(tmp_path: Path) -> None:
    lay(tmp_path, FORMER)
    (tmp_path / daemon_backup.FOLDER / "t").mkdir(parents=True)
    with pytest.raises(CannotUndo, match="no backup"):
        daemon_backup.newest(tmp_path)
    assert daemon_backup.back_up(tmp_path, NEW, "t").name == "t-002"
