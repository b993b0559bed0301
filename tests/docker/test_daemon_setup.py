"""The set-up of a daemon, on machines that are folders: what is put there, what is refused, what is undone."""

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docker import certs, daemon_backup, daemon_setup
from docker.daemon_setup import BROKEN, CANNOT, CONFIG, DONE, DROP_IN, NEEDS_CONSENT, ROLLED_BACK, SHIPPED, Machine

ROOT = Path(__file__).parents[2]
UNIT = "[Service]\nExecStart=/usr/bin/dockerd -H fd:// --containerd=/run/containerd/its-own\n"
DEBIAN = "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/x $DOCKER_OPTS\n"


class FakeMachine(Machine):
    """Programs that only say what they would have done; ``fails`` are those that end with 1, in turn."""

    def __init__(self, *programs: str, answering: bool = True, fails: tuple[str, ...] = (), helps: str = "") -> None:
        self.programs, self.answering, self.fails, self.helps = programs, answering, list(fails), helps
        self.ran = list[str]()

    def run(self, *command: str) -> tuple[int, str]:
        line = " ".join(command)
        if command[-1] == "--help":
            return 0, self.helps
        self.ran.append(line)
        if self.fails and self.fails[0] in line:
            self.fails.pop(0)
            return 1, "it says why"
        return 0, ""

    def has(self, program: str) -> bool:
        return program in self.programs

    def answers(self, folder: Path, address: tuple[str, int]) -> bool:
        return self.answering

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    certs.generate(folder, hosts=["127.0.0.1", "10.0.0.5"], days=2)
    return folder


class Site:
    """A machine's files, and the set-up run on them."""

    def __init__(self, root: Path, given: Path) -> None:
        self.root, self.given = root, given
        self.machine = FakeMachine("systemctl")
        self.put("lib/systemd/system/docker.service", UNIT)

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def run(self, *options: str, certificates: bool = True) -> int:
        more = ("--certs", str(self.given)) if certificates else ()
        return daemon_setup.main([*options, *more, "--root", str(self.root)], self.machine)

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Every file with its content and mode, backups left out."""
        found = [path for path in self.root.rglob("*") if path.is_file() and "backups" not in str(path)]
        return {str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_mode & 0o777) for path in found}

    def config(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.root / CONFIG).read_text())
        return found


@pytest.fixture
def site(tmp_path: Path, given: Path) -> Site:
    return Site(tmp_path, given)


def test_a_fresh_machine_is_set_up_and_again_nothing_is_done(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.run("--listen", "10.0.0.5") == DONE
    assert site.config() == json.loads(SHIPPED.read_text()) | {"hosts": ["fd://", "tcp://10.0.0.5:2376"]}
    files = site.files()
    modes = {name: mode for name, (_, mode) in files.items() if name.startswith("etc/docker/certs")}
    assert modes == {
        "etc/docker/certs/ca.pem": 0o444,
        "etc/docker/certs/server-cert.pem": 0o444,
        "etc/docker/certs/server-key.pem": 0o400,
    }
    assert b"ExecStart=\nExecStart=/usr/bin/dockerd --containerd=/run/containerd/its-own\n" in files[DROP_IN][0]
    assert "systemctl daemon-reload && systemctl restart docker" in capsys.readouterr().out
    assert site.machine.ran == [], "it is restarted when that is asked for"
    for options in (("--listen", "10.0.0.5"), ()):
        assert site.run(*options) == DONE
        assert "Nothing to do" in capsys.readouterr().out
        assert site.files() == files
    assert site.run(certificates=False) == DONE
    assert site.files() == files


def test_a_dry_run_shows_every_change_and_makes_none(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.put(CONFIG, '{"dns": ["10.0.0.2"]}\n')
    before = site.files()
    assert site.run("--dry-run") == DONE
    said = capsys.readouterr().out
    assert site.files() == before
    assert not (site.root / daemon_backup.FOLDER).exists()
    for word in ('+  "tlsverify": true,', "+ExecStart=", "server-key.pem (0400)", "systemctl restart docker"):
        assert word in said
    assert "PRIVATE KEY" not in said


def test_undo_puts_everything_back_after_a_dry_run_that_shows_it(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put(CONFIG, '{"dns": ["10.0.0.2"]}\n')
    before = site.files()
    assert site.run() == DONE
    after = site.files()
    capsys.readouterr()
    assert site.run("--undo", "--dry-run", certificates=False) == DONE
    said = capsys.readouterr().out
    assert '-  "tlsverify": true,' in said and "Remove /etc/docker/certs/ca.pem" in said
    assert site.files() == after
    assert site.run("--undo", certificates=False) == DONE
    assert site.files() == before
    assert site.run("--undo", certificates=False) == CANNOT


def test_a_contradiction_is_refused_until_it_is_agreed_to(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.put(CONFIG, '{"live-restore": false, "iptables": false, "debug": true}')
    site.put("etc/systemd/system/docker.service.d/a.conf", "[Service]\nExecStart=\nExecStart=dockerd --icc=true\n")
    before = site.files()
    assert site.run() == NEEDS_CONSENT
    said = capsys.readouterr().err
    assert all(word in said for word in ("live-restore", "iptables", "--icc=true", "--replace"))
    assert site.files() == before
    assert site.run("--replace") == DONE
    assert site.config()["live-restore"] is True
    assert site.config()["debug"] is True
    assert "iptables" not in site.config()
    assert b"ExecStart=dockerd\n" in (site.root / DROP_IN).read_bytes()


@pytest.mark.parametrize(
    ("put", "word"),
    [
        ({CONFIG: "{no"}, "is no JSON"),
        ({CONFIG: "[]"}, "is no JSON object"),
        ({"var/lib/docker/swarm/docker-state.json": "{}"}, "swarm"),
        ({"etc/default/docker": '# -H x\nDOCKER_OPTS="-H tcp://0.0.0.0:2375"\n'}, "/etc/default/docker"),
        ({"lib/systemd/system/docker.service": "[Service]\n"}, "ExecStart"),
    ],
)
def test_what_stands_in_the_way_is_told_and_nothing_is_changed(
    site: Site, put: dict[str, str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, text in put.items():
        site.put(path, text)
    before = site.files()
    assert site.run() == CANNOT
    assert word in capsys.readouterr().err
    assert site.files() == before


def test_certificates_that_no_client_would_accept_are_not_installed(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert site.run("--listen", "10.0.0.9") == CANNOT
    said = capsys.readouterr().err
    assert all(word in said for word in ("10.0.0.9", "--listen", "certs rotate server --host 10.0.0.9"))
    assert ".:" not in said
    assert site.run(certificates=False) == CANNOT
    assert "generate-certs.sh" in capsys.readouterr().err
    assert not (site.root / "etc/docker").exists()


@pytest.mark.parametrize(
    ("prepare", "drop_in", "hosts"),
    [
        (lambda site: site.put("lib/systemd/system/docker.service", DEBIAN), b"--containerd=/x $DOCKER_OPTS", "fd://"),
        (lambda site: site.put("lib/systemd/system/docker.service", "[Service]\nExecStart=dockerd"), None, "unix://"),
        (lambda site: (site.root / "lib/systemd/system/docker.service").unlink(), None, "unix://"),
    ],
)
def test_each_way_to_start_a_daemon(
    site: Site, prepare: Callable[[Site], None], drop_in: bytes | None, hosts: str
) -> None:
    """Debian's unit, one without -H, and no systemd."""
    prepare(site)
    assert site.run() == DONE
    assert site.config()["hosts"] == [hosts, "tcp://127.0.0.1:2376"]
    assert (site.root / DROP_IN).exists() == (drop_in is not None)
    assert drop_in is None or drop_in in (site.root / DROP_IN).read_bytes()


def test_a_daemon_that_knows_how_validates_the_file(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """dockerd 23 and newer."""
    site.machine = FakeMachine("dockerd", helps="--validate", fails=("--validate",))
    assert site.run() == CANNOT
    assert "it says why" in capsys.readouterr().err
    assert not (site.root / CONFIG).exists()
    assert site.run() == DONE
    assert "--config-file" in site.machine.ran[0]


def test_after_a_restart_the_daemon_has_answered(site: Site) -> None:
    assert site.run("--restart") == DONE
    assert site.machine.ran == ["systemctl daemon-reload", "systemctl restart docker"]


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        (FakeMachine("systemctl", answering=False), ROLLED_BACK),
        (FakeMachine("systemctl", fails=("restart",)), ROLLED_BACK),
        (FakeMachine("systemctl", fails=("restart", "restart")), BROKEN),
    ],
)
def test_a_daemon_that_does_not_come_back_is_put_back(site: Site, machine: FakeMachine, code: int) -> None:
    site.put(CONFIG, '{"dns": ["10.0.0.2"]}\n')
    before = site.files()
    site.machine = machine
    assert site.run("--restart") == code
    assert site.files() == before
    assert machine.ran[-1] == "systemctl restart docker"


def test_without_a_way_to_restart_nothing_is_begun(site: Site) -> None:
    site.machine = FakeMachine()
    assert site.run("--restart") == CANNOT
    assert not (site.root / CONFIG).exists()


def test_the_script_needs_no_package(site: Site) -> None:
    """A fresh server has Python and nothing of ours. ``-S``: without site-packages."""
    python = site.root / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    command = [str(ROOT / "docker/scripts/setup-docker-tls.sh"), "--root", ".", "--certs", str(site.given)]
    environment = {"PATH": os.defpath, "PYTHON": str(python)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=site.root)
    assert (done.returncode, done.stderr) == (DONE, "")
    assert site.config()["tlsverify"] is True
