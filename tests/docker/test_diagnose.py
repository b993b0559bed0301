"""One verdict a cause within five seconds, and the service raises the very type: the troubleshooting list, run."""

import asyncio
import datetime as dt
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from docker import diagnose
from docker.aiodocker_service import AiodockerService
from docker.authority import Authority
from docker.diagnose import Diagnosis
from docker.errors import CertificateFilesUnreadable, DaemonSilent, DockerError
from docker.settings import DockerSettings
from docker.verdicts import VERDICTS
from tests.docker.stub_daemon import daemon_context, furnish, http, over_tls, peer, settings_for
from tests.docker.troubles import TROUBLES, Trouble, as_nobody, at_another_time
from tests.house import pages

SECONDS = 5.0
STEPS = ["settings", "files", "name", "tcp", "tls", "ping", "version"]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_each_trouble_has_its_verdict(trouble: Trouble, tmp_path: Path) -> None:
    with trouble.make(tmp_path) as settings:
        began = time.monotonic()
        found = await diagnose.diagnose(settings, seconds=0.6 if trouble.silent else diagnose.SECONDS)
        assert time.monotonic() - began < SECONDS
    assert (found.verdict, found.exit_code) == (trouble.verdict, VERDICTS[trouble.kind].exit_code)
    assert trouble.words in found.sentence
    assert found.sentence.endswith((".", "?"))
    assert found.todo == VERDICTS[trouble.kind].todo
    assert [step.name for step in found.steps] == STEPS[: len(found.steps)]
    assert [step.passed for step in found.steps].count(False) == 1
    assert not found.steps[-1].passed


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_the_service_raises_its_type(trouble: Trouble, tmp_path: Path) -> None:
    with trouble.make(tmp_path) as settings:
        if trouble.silent:
            settings = msgspec.structs.replace(settings, docker_connect_timeout=0.6, docker_call_timeout=0.8)
        began = time.monotonic()
        with pytest.raises(DockerError) as caught:
            async with AiodockerService(settings) as service:
                await service.list_containers()
        assert time.monotonic() - began < SECONDS
    assert type(caught.value) is trouble.kind


async def test_a_black_hole_takes_less_than_five_seconds_by_default(tmp_path: Path) -> None:
    (dropping,) = (trouble for trouble in TROUBLES if "firewall" in trouble.name)

    async def called(settings: DockerSettings) -> None:
        async with AiodockerService(settings) as service:
            with pytest.raises(dropping.kind):
                await service.list_containers()

    with dropping.make(tmp_path) as settings:
        began = time.monotonic()
        found, _ = await asyncio.gather(diagnose.diagnose(settings), called(settings))
        assert time.monotonic() - began < SECONDS
    assert found.verdict == dropping.verdict


async def test_a_name_server_that_never_answers_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def waiting(*_: Any, **__: Any) -> list[Any]:
        over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server")

    folder = furnish(tmp_path / "certs", Authority())
    monkeypatch.setattr(socket, "getaddrinfo", waiting)
    settings = settings_for(folder, 1, docker_host="tcp://slow.test:2376", docker_connect_timeout=0.3)
    try:
        found = await diagnose.diagnose(settings, seconds=0.3)
        async with AiodockerService(settings) as service:
            with pytest.raises(DaemonSilent):
                await service.list_containers()
    finally:
        over.set()
    assert found.verdict == "silent"
    assert "name server" in found.sentence


@pytest.mark.parametrize("closed", ["client-key.pem", "ca.pem", "."])
async def test_files_that_we_may_not_read_are_named(closed: str) -> None:
    """Permission denied: certificate file permissions. The folders of pytest are closed to others anyway."""
    with tempfile.TemporaryDirectory() as room:
        os.chmod(room, 0o755)
        folder = furnish(Path(room) / "certs", Authority())
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)
        (folder / closed).chmod(0)
        with as_nobody():
            found = await diagnose.diagnose(settings_for(folder, 1))
            with pytest.raises(CertificateFilesUnreadable):
                await AiodockerService(settings_for(folder, 1)).list_containers()
        (folder / closed).chmod(0o755)
    assert found.verdict == "files-unreadable"
    assert f"{'ca.pem' if closed == '.' else closed} cannot be read by this user" in found.sentence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path / "certs", Authority(days=20))


async def healthy(folder: Path, **changes: object) -> Diagnosis:
    with peer(over_tls(daemon_context(folder))) as port:
        return await diagnose.diagnose(settings_for(folder, port, **changes))


async def test_a_daemon_that_answers_is_told_with_its_facts(folder: Path) -> None:
    found = await healthy(folder)
    assert (found.verdict, found.exit_code, found.todo, found.usable) == ("ok", 0, "", True)
    assert "TLSv1.3: Docker 20.10.24, API 1.41" in found.sentence
    assert [(step.name, step.passed) for step in found.steps] == [(name, True) for name in STEPS]
    facts = found.facts
    assert (facts.tls_version, facts.daemon_version, facts.api_version) == ("TLSv1.3", "20.10.24", "1.41")
    assert facts.peer is not None
    assert facts.peer.startswith("127.0.0.1:")
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=20)
    for told in (facts.our_certificate_ends, facts.daemon_certificate_ends):
        assert told is not None
        assert abs(told - ends) < dt.timedelta(minutes=5)


async def test_what_will_be_wrong_soon_is_a_warning(folder: Path) -> None:
    """Permission denied: certificate file permissions (444 for certificates, 400 for keys)."""
    (folder / "client-key.pem").chmod(0o644)
    (folder / "ca.pem").chmod(0o666)
    found = await healthy(folder)
    told = " ".join(found.warnings)
    assert found.usable
    for words in (
        f"chmod 0400 {folder}/client-key.pem",
        f"chmod 0444 {folder}/ca.pem",
        "Our certificate ends",
        "The daemon's certificate ends",
    ):
        assert words in told
    assert len(found.warnings) == 4


async def test_a_certificate_that_would_be_refused_is_told_of_a_daemon_that_is_away(tmp_path: Path) -> None:
    """Or the second trouble is met only when the first is mended."""
    authority = Authority()
    folder = furnish(tmp_path / "certs", authority)
    certificate, key = at_another_time(authority, dt.datetime(2020, 1, 1, tzinfo=dt.UTC), 1).client()
    for name, content in (("client-cert.pem", certificate), ("client-key.pem", key)):
        (folder / name).unlink()
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o400)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = await diagnose.diagnose(settings_for(folder, port))
    assert found.verdict == "port-closed"
    assert any("expired at" in warning for warning in found.warnings)


async def test_a_daemon_that_answers_an_error_of_its_own_is_one(folder: Path) -> None:
    context = daemon_context(folder)
    with peer(over_tls(context, lambda _: http("disk full", status="500 Oops"))) as port:
        found = await diagnose.diagnose(settings_for(folder, port))
    assert found.verdict == "daemon-failed"
    assert "disk full" in found.sentence


def test_the_command_prints_one_sentence_and_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
    assert diagnose.main([]) == 21
    out, err = capsys.readouterr()
    sentence, todo, *_ = out.splitlines()
    assert sentence.startswith("Nothing listens at")
    assert todo.startswith("Start dockerd")
    assert [line.split()[:2] for line in err.splitlines()][-1] == ["tcp", "FAILED"]
    assert diagnose.main(["--json"]) == 21
    assert msgspec.json.decode(capsys.readouterr().out, type=Diagnosis).verdict == "port-closed"


def test_a_setting_that_cannot_be_read_is_a_verdict_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_TLS_PORT", "many")
    assert diagnose.main([]) == 10
    assert "cannot be read" in capsys.readouterr().out


def test_the_readme_tells_every_verdict() -> None:
    told = {word: cells[0] for word, cells in pages.table("docker/README.md", "verdict").items()}
    assert told == {"ok": "0"} | {verdict.word: str(verdict.exit_code) for verdict in VERDICTS.values()}
