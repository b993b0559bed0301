"""Which runtime there is: safe by default, and never another one than was asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from docker.errors import DockerError
from docker.image import OPENCODE_IMAGE
from docker.service import Capability
from docker.settings import DockerSettings
from events.keyring import MemoryKeyring
from events.lease import MemoryLeases
from events.memory import MemoryEventStore
from events.schema import Applied
from gateway.runtime import BLOCKING_NOTE, Runtime, RuntimeRefused, open_runtime, too_small
from gateway.settings import load
from gateway.storage import Storage
from tests.docker_fixtures import DockerDaemon


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without OpenCode and without npm to fetch it with."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def storage(label: str) -> Storage:
    store = MemoryEventStore()
    return Storage(
        store=store,
        keyring=MemoryKeyring(),
        leases=MemoryLeases(store),
        label=label,
        schema=Applied((), False),
    )


@asynccontextmanager
async def opened(data_dir: Path, label: str = "embedded", **environment: str) -> AsyncIterator[Runtime]:
    settings = load({"GATEWAY_DATA_DIR": str(data_dir), **environment})
    async with open_runtime(settings, storage(label), lambda _: None) as runtime:
        yield runtime


async def test_without_docker_sessions_are_local_processes_and_it_is_said(tmp_path: Path) -> None:
    """Loudly: they isolate nobody; and what runs in them instead of OpenCode, and why."""
    async with opened(tmp_path) as runtime:
        assert runtime.docker.runtime == "local"
        assert Capability.ISOLATION not in runtime.docker.capabilities
        assert runtime.agent.default_image == "echo"
        assert runtime.notes[0].startswith("NO ISOLATION")
        assert any("echo agent, not OpenCode" in note for note in runtime.notes)


async def test_local_processes_are_refused_beside_a_database_of_ones_own(tmp_path: Path) -> None:
    """There it may be no trying out; who wants it says so."""
    with pytest.raises(RuntimeRefused, match="ALLOW_UNISOLATED"):
        async with opened(tmp_path, "database"):
            pass
    async with opened(tmp_path, "database", ALLOW_UNISOLATED="true", SESSION_IMAGE="echo") as runtime:
        assert runtime.docker.runtime == "local"


@pytest.mark.parametrize("image", ["opencode", "nobody/knows:1"])
async def test_an_image_that_no_session_could_start_refuses_the_start(tmp_path: Path, image: str) -> None:
    """Else every session would fail, one by one, with image_missing."""
    with pytest.raises(RuntimeRefused, match=f"SESSION_IMAGE={image} cannot be had"):
        async with opened(tmp_path, SESSION_IMAGE=image):
            pass


async def test_a_docker_that_is_asked_for_is_not_replaced(tmp_path: Path) -> None:
    """By name, or by its address alone: a daemon that does not answer ends the start, it does not end isolation."""
    for wanted in ({"SESSION_RUNTIME": "docker"}, {}):
        with pytest.raises(DockerError):
            async with opened(tmp_path, DOCKER_HOST="tcp://127.0.0.1:1", DOCKER_CERT_PATH=str(tmp_path), **wanted):
                pass


async def test_the_mock_runs_what_is_asked_for(tmp_path: Path) -> None:
    images = {"SESSION_IMAGE": "any:1", "SESSION_IMAGES_ALLOWED": "b:1, c:1 ,"}
    async with opened(tmp_path, SESSION_RUNTIME="mock", **images) as runtime:
        assert (runtime.docker.runtime, runtime.summary) == ("mock", "mock containers, image any:1")
        assert runtime.agent.allowed_images == {"b:1", "c:1"}


async def test_a_setting_for_scripts_is_noted_and_changes_nothing(tmp_path: Path) -> None:
    """Whoever sets it for the gateway should hear that it never blocks, and is served all the same."""
    async with opened(tmp_path, SESSION_RUNTIME="mock", USE_ASYNC_DOCKER="false") as runtime:
        assert runtime.docker.runtime == "mock"
        assert [note for note in runtime.notes if "USE_ASYNC_DOCKER" in note] == [BLOCKING_NOTE]
    async with opened(tmp_path, SESSION_RUNTIME="mock") as runtime:
        assert runtime.notes == ()


async def test_a_model_that_is_given_is_used_and_else_the_stub_answers(tmp_path: Path) -> None:
    """The stub's address is one that local sessions reach, and it ends with the runtime."""
    given = {"MODEL_BASE_URL": "https://models.example/v1", "MODEL_API_KEY": "k" * 20, "MODEL_NAME": "m1"}
    async with opened(tmp_path, SESSION_IMAGE="echo", **given) as runtime:
        model = runtime.agent.model
        assert (model.base_url, model.api_key, model.name) == ("https://models.example/v1", "k" * 20, "m1")
    async with opened(tmp_path, SESSION_IMAGE="echo") as runtime:
        assert runtime.agent.model.base_url.startswith("http://127.0.0.1:")


async def test_the_agents_settings_hold_no_credential_but_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path, SESSION_IMAGE="echo") as runtime:
        assert "OPENCODE_SERVER_PASSWORD" not in runtime.agent.environment(runtime.agent.model)
        assert runtime.agent.environment_for("c1")["OPENCODE_SERVER_PASSWORD"] == "c1"


async def test_local_sessions_ask_before_they_act(tmp_path: Path) -> None:
    """Without a fence around it, the agent asks for shell and edits."""
    async with opened(tmp_path, SESSION_IMAGE="echo") as runtime:
        settings = " ".join(runtime.agent.environment(runtime.agent.model).values())
        assert '"ask"' in settings and '"allow"' not in settings


@pytest.mark.docker
async def test_a_start_whose_sessions_will_all_fail_says_so(tmp_path: Path, docker_daemon: DockerDaemon) -> None:
    """Without the image, and with ports on the loopback of another machine, each would fail when it is opened."""
    if not docker_daemon.enter:
        pytest.skip("the daemon given by DOCKER_HOST shares our loopback")
    given = {"SESSION_IMAGE": "foo:1", "PUBLISH_ADDRESS": "127.0.0.1", "MODEL_BASE_URL": "https://models.example/v1"}
    async with opened(tmp_path, **{**docker_daemon.environment, **given}) as runtime:
        image, publishing = [note for note in runtime.notes if note.startswith("SESSIONS CANNOT")]
        assert "foo:1" in image and "SESSION_IMAGE" in image
        assert "PUBLISH_ADDRESS=127.0.0.1" in publishing
    fine = {"SESSION_IMAGE": "", "HOST_IP": "no-such-host.invalid"}
    async with opened(tmp_path, **{**docker_daemon.environment, **given, **fine}) as runtime:
        assert any("HOST_IP=no-such-host.invalid" in note for note in runtime.notes)


def test_a_limit_that_is_little_for_opencode_is_noted() -> None:
    little = DockerSettings(container_memory_limit="512m")
    assert ["CONTAINER_MEMORY_LIMIT=512m" in note for note in too_small(OPENCODE_IMAGE, little)] == [True]
    assert too_small(OPENCODE_IMAGE, DockerSettings()) == too_small("other", little) == ()
