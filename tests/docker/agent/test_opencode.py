"""OpenCode: found or fetched with its checksum, and what it starts with. The real one runs where it can be had."""

import asyncio
import base64
import hashlib
import io
import json
import os
import secrets
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from docker.agent import opencode
from docker.agent.model import StubModel
from docker.agent.opencode import Missing, OpenCode, Package
from docker.local import LocalService
from docker.service import Volume
from tests.docker.local_factory import local_service

# Kept between runs: 185 MB, fetched in 7 s.
CACHE = Path(os.environ.get("SESSION_GATEWAY_TEST_CACHE", str(Path(tempfile.gettempdir()) / "session-gateway-cache")))
VARIABLES = opencode.environment(
    base_url="http://127.0.0.1:1/v1", api_key="key", model="m-1", permission="ask", password="secret"
)


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def tarball(
    path: Path, name: str = "package/bin/opencode", directory: bool = False, content: bytes = b"program"
) -> Package:
    """An npm package with one entry, and its true checksum."""
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size = (tarfile.DIRTYPE, 0) if directory else (tarfile.REGTYPE, len(content))
        archive.addfile(entry, io.BytesIO(content))
    return Package("opencode-test", f"sha512-{base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()}")


async def test_one_on_the_path_is_taken_with_its_own_version(tmp_path: Path) -> None:
    installed = program(tmp_path / "bin/opencode", "echo 9.9.9")
    found = await opencode.locate(tmp_path / "cache", search_path=str(tmp_path / "bin"))
    assert found == OpenCode(installed, "9.9.9")


async def test_its_version_is_asked_once_until_the_file_changes(tmp_path: Path) -> None:
    """``--version`` takes two seconds of CPU, more than a second start of the gateway may take."""
    count = tmp_path / "count"
    installed = program(tmp_path / "bin/opencode", f"echo x >> {count}; echo 1.0")
    for _ in range(2):
        assert await opencode.locate(tmp_path, search_path=str(installed.parent)) == OpenCode(installed, "1.0")
    program(installed, f"echo x >> {count}; echo 2.0.0")
    assert await opencode.locate(tmp_path, search_path=str(installed.parent)) == OpenCode(installed, "2.0.0")
    assert count.read_text() == "x\nx\n"


async def test_a_broken_memory_of_versions_is_written_anew(tmp_path: Path) -> None:
    installed = program(tmp_path / "bin/opencode", "echo 1.0")
    (tmp_path / "versions.json").write_text("{")
    assert await opencode.locate(tmp_path, search_path=str(installed.parent)) == OpenCode(installed, "1.0")
    assert opencode.recall(tmp_path, installed) == "1.0"


async def test_its_version_is_asked_without_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "planted")
    installed = program(tmp_path / "bin/opencode", 'echo "[$PLANTED_SECRET]"')
    assert await opencode.locate(tmp_path, search_path=str(installed.parent)) == OpenCode(installed, "[]")


async def test_one_that_does_not_run_is_missing_with_its_last_words(tmp_path: Path) -> None:
    installed = program(tmp_path / "bin/opencode", "echo no such instruction; exit 3")
    found = await opencode.locate(tmp_path, search_path=str(installed.parent))
    assert found == Missing(f"{installed} does not run here: no such instruction.")


async def test_one_that_never_answers_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencode, "ANSWER_SECONDS", 0.2)
    installed = program(tmp_path / "bin/opencode", "exec sleep 60")
    found = await opencode.locate(tmp_path, search_path=str(installed.parent))
    assert isinstance(found, Missing)
    assert "does not run here" in found.reason


async def test_nothing_is_fetched_when_that_is_switched_off(tmp_path: Path) -> None:
    found = await opencode.locate(tmp_path, search_path=str(tmp_path), fetch=False)
    assert isinstance(found, Missing)
    assert os.listdir(tmp_path) == []


async def test_what_is_cached_is_used_without_fetching(tmp_path: Path) -> None:
    cached = program(tmp_path / f"opencode-{opencode.VERSION}" / "opencode", f"echo {opencode.VERSION}")
    found = await opencode.locate(tmp_path, search_path="", fetch=False)
    assert found == OpenCode(cached, opencode.VERSION)


async def test_without_npm_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencode, "package_for", lambda *_: Package("opencode-test", "sha512-x"))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await opencode.locate(tmp_path / "cache", search_path=str(tmp_path))
    assert isinstance(found, Missing)
    assert "npm" in found.reason


async def test_what_npm_fetches_is_checked_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """npm here is a script that hands over a package of ours; first the checksum is that of another."""
    ran = tmp_path / "ran"
    good = tarball(tmp_path / "good.tgz", content=f"#!/bin/sh\ntouch {ran}; echo {opencode.VERSION}\n".encode())
    program(tmp_path / "bin/npm", f'cp {tmp_path}/good.tgz "$5/opencode-test-{opencode.VERSION}.tgz"')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    cache = tmp_path / "cache"
    cached = cache / f"opencode-{opencode.VERSION}" / "opencode"
    for integrity, arrives in (("sha512-another", False), (good.integrity, True)):
        package = Package(good.name, integrity)
        monkeypatch.setattr(opencode, "package_for", lambda *_, package=package: package)
        found = await opencode.locate(cache, search_path=str(tmp_path))
        assert found == OpenCode(cached, opencode.VERSION) if arrives else isinstance(found, Missing), found
        assert (cached.exists(), ran.exists()) == (arrives, arrives)
    assert sorted(os.listdir(cache)) == [f"opencode-{opencode.VERSION}", "versions.json"]


async def test_a_fetch_that_fails_says_what_npm_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencode, "package_for", lambda *_: Package("opencode-test", "sha512-x"))
    program(tmp_path / "bin/npm", "echo no network; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    found = await opencode.locate(tmp_path / "cache", search_path=str(tmp_path))
    assert found == Missing(f"npm could not fetch opencode-test {opencode.VERSION}: no network.")


@pytest.mark.parametrize("directory", [False, True])
def test_a_package_without_the_program_is_refused(tmp_path: Path, directory: bool) -> None:
    package = tarball(tmp_path / "empty.tgz", "package/bin/opencode" if directory else "package/README.md", directory)
    assert isinstance(opencode.unpack(tmp_path / "empty.tgz", package, tmp_path / "opencode"), Missing)
    assert not (tmp_path / "opencode").exists()


async def test_a_cache_that_cannot_be_written_is_a_reason_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = await opencode.locate(tmp_path / "file" / "cache", search_path=str(tmp_path))
    assert isinstance(found, Missing)


@pytest.mark.parametrize(
    ("platform", "word"),
    [
        (("Linux", "x86_64", "glibc"), "opencode-linux-x64"),
        (("Linux", "x86_64", ""), "without glibc"),
        (("Linux", "aarch64", "glibc"), "opencode-linux-arm64"),
        (("Linux", "riscv64", "glibc"), "riscv64"),
        (("Darwin", "arm64", ""), "Darwin"),
    ],
)
def test_a_platform_has_a_pinned_package_or_a_reason(platform: tuple[str, str, str], word: str) -> None:
    package = opencode.package_for(*platform)
    if isinstance(package, Package):
        assert package.name == word
        assert package.integrity is not None
        assert len(base64.b64decode(package.integrity.removeprefix("sha512-"))) == 64
    else:
        assert word in package.reason


def test_the_environment_names_one_model_and_fetches_nothing() -> None:
    config = json.loads(VARIABLES["OPENCODE_CONFIG_CONTENT"])
    assert config["model"] == config["small_model"] == "gateway/m-1"
    assert config["enabled_providers"] == list(config["provider"]) == ["gateway"]
    assert config["provider"]["gateway"]["options"] == {"baseURL": "http://127.0.0.1:1/v1", "apiKey": "key"}
    assert (config["autoupdate"], config["share"]) == (False, "disabled")
    assert VARIABLES["OPENCODE_SERVER_PASSWORD"] == "secret"
    assert {name for name, value in VARIABLES.items() if value == "1"} == {
        "OPENCODE_DISABLE_AUTOUPDATE",
        "OPENCODE_DISABLE_LSP_DOWNLOAD",
        "OPENCODE_DISABLE_MODELS_FETCH",
    }


def test_shell_and_edits_are_asked_for_where_nothing_fences_them_in() -> None:
    assert json.loads(VARIABLES["OPENCODE_CONFIG_CONTENT"])["permission"] == {"bash": "ask", "edit": "ask"}


@pytest.fixture
async def real() -> OpenCode:
    found = await opencode.locate(CACHE, search_path=os.environ.get("PATH", ""))
    if isinstance(found, Missing):
        pytest.skip(f"NOT TESTED: no OpenCode: {found.reason}")
    return found


@asynccontextmanager
async def ready(service: LocalService, name: str, password: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the started agent. Its first requests are accepted and never answered: a new connection a try."""
    async with asyncio.timeout(60):
        while True:
            info = await service.get_container_info(name)
            assert info is not None
            assert info.address is not None, await service.logs(name)
            url, auth = f"http://{info.address.host}:{info.address.port}", httpx.BasicAuth("opencode", password)
            try:
                async with httpx.AsyncClient(base_url=url, auth=auth, timeout=0.5) as probe:
                    assert (await probe.get("/global/health")).json()["healthy"] is True
                break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    async with httpx.AsyncClient(base_url=url, auth=auth, timeout=60) as client:
        yield client


async def turn(client: httpx.AsyncClient, session: str, text: str) -> str:
    said = {"parts": [{"type": "text", "text": text}]}
    answer: dict[str, Any] = (await client.post(f"/session/{session}/message", json=said)).json()
    return "".join(part["text"] for part in answer["parts"] if part["type"] == "text")


@pytest.mark.opencode
async def test_a_local_session_chats_runs_a_command_and_keeps_its_conversation(tmp_path: Path, real: OpenCode) -> None:
    """The real OpenCode as a local process, offline: stub model, one tool call, terminal, restart on the same HOME."""
    password = secrets.token_hex(16)
    images = {"opencode": opencode.command(real.path)}
    with StubModel(api_key="model-key") as model:
        async with local_service(tmp_path, images) as service:
            variables = opencode.environment(
                base_url=model.base_url, api_key="model-key", model="stub-1", permission="allow", password=password
            )
            volumes = (Volume("conversation", "/home/app"),)
            await service.create_container("agent", "opencode", environment=variables, volumes=volumes)
            await service.start_container("agent")
            async with ready(service, "agent", password) as client:
                session = (await client.post("/session", json={"title": "kept"})).json()["id"]
                assert await turn(client, session, "hello stub") == "You said: hello stub"
                ran = await turn(client, session, "RUN: echo $HOSTNAME; touch made-here")
                assert ran == "The command said: agent"
                assert len(model.requests) == 3, "a titled session makes no call for a title"
                terminal = await client.post("/pty", json={"command": "/bin/sh", "args": []})
                assert terminal.json()["status"] == "running"
            await service.stop_container("agent")
            info = await service.get_container_info("agent")
            assert info is not None
            assert info.exit_code == 143
            await service.start_container("agent")
            async with ready(service, "agent", password) as client:
                assert [one["title"] for one in (await client.get("/session")).json()] == ["kept"]
