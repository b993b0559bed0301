"""Runtime: which container runtime there is, and what runs in a session on it.

A Docker daemon that can be reached over mutual TLS, else local processes, which isolate nobody: for trying out on the
log of this data directory only, unless ALLOW_UNISOLATED says otherwise.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import msgspec

from docker.agent import opencode
from docker.agent.model import MODEL, StubModel
from docker.agent.opencode import Missing
from docker.aiodocker_service import AiodockerService
from docker.image import ECHO_IMAGE, OPENCODE_IMAGE
from docker.local import ECHO_COMMAND, LocalService
from docker.mock import MockDockerService
from docker.service import DockerService
from docker.settings import DockerSettings, daemon_url, parse_size
from gateway.sessions.agent import Agent, Model
from gateway.settings import Settings
from gateway.storage import Report, Storage

OPENCODE = "opencode"  # image names of the local runtime
ECHO = "echo"
OPENCODE_MEMORY = 1 << 30  # it takes some 550 MiB with one session open
BLOCKING_NOTE = "USE_ASYNC_DOCKER=false is for scripts: the gateway itself never blocks, and serves as ever."


class RuntimeRefused(Exception):
    """The settings ask for a runtime that cannot be had, or that would be unsafe. One sentence."""


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime in use. ``notes`` are lines for the person who started the gateway."""

    docker: DockerService
    agent: Agent
    summary: str
    notes: tuple[str, ...] = ()


@contextlib.asynccontextmanager
async def open_runtime(settings: Settings, storage: Storage, report: Report) -> AsyncIterator[Runtime]:
    """Raises RuntimeRefused, DockerError (when SESSION_RUNTIME=docker and no daemon answers)."""
    async with AsyncExitStack() as stack:
        opened = await _open(stack, settings, storage, report)
        notes = () if settings.docker.use_async_docker else (BLOCKING_NOTE,)
        yield msgspec.structs.replace(opened, notes=opened.notes + notes)


async def _open(stack: AsyncExitStack, settings: Settings, storage: Storage, report: Report) -> Runtime:
    wanted = settings.sessions.session_runtime
    if wanted == "mock":
        return _mock(settings)
    if wanted == "docker" or (wanted == "auto" and (settings.docker.docker_host or settings.docker.docker_host_ip)):
        return await _docker(stack, settings)
    return await _local(stack, settings, storage.label in ("embedded", "json"), report)


async def _docker(stack: AsyncExitStack, settings: Settings) -> Runtime:
    service = await stack.enter_async_context(AiodockerService(settings.docker))
    await service.list_containers()  # raises what is wrong with the daemon, its certificate or ours
    image = settings.sessions.session_image
    notes = await service.examine()
    if not image:
        image = OPENCODE_IMAGE if await service.image_id(OPENCODE_IMAGE) else ECHO_IMAGE
        if image == ECHO_IMAGE:
            notes += (f"Sessions run the echo agent: `make image` builds {OPENCODE_IMAGE} for real ones.",)
    if await service.image_id(image) is None:
        notes += (image_absent(image),)
    notes += too_small(image, settings.docker)
    model, note = _model(stack, settings, await service.host_address())
    publishing = await service.host.note()
    notes += (publishing,) if publishing else ()
    where = daemon_url(settings.docker).replace("https:", "tcp:")  # as the setting is written
    return Runtime(
        docker=service,
        agent=_agent(settings, image, model, "allow"),
        summary=f"containers of the daemon at {where} over mutual TLS, image {image}",
        notes=notes + note,
    )


def image_absent(image: str) -> str:
    """A note, and no refusal: an image can come at any time."""
    given = "" if image in (OPENCODE_IMAGE, ECHO_IMAGE) else ", or correct SESSION_IMAGE"
    return (
        f"SESSIONS CANNOT START: the image {image} is not on the daemon's machine. Build it there, or load it "
        f"(docker load){given}."
    )


def too_small(image: str, settings: DockerSettings) -> tuple[str, ...]:
    """A note when OpenCode would be short of memory; no refusal, since what it needs depends on what it is given."""
    if image != OPENCODE_IMAGE or parse_size(settings.container_memory_limit) >= OPENCODE_MEMORY:
        return ()
    return (f"CONTAINER_MEMORY_LIMIT={settings.container_memory_limit} is little for OpenCode: give it 1g or more.",)


async def _local(stack: AsyncExitStack, settings: Settings, own_log: bool, report: Report) -> Runtime:
    if not own_log and not settings.sessions.allow_unisolated:
        raise RuntimeRefused(
            "Local processes isolate nobody and are refused with a database of your own: give DOCKER_HOST with its "
            "certificates, or set ALLOW_UNISOLATED=true when every user of this gateway may do what it may."
        )
    images: dict[str, tuple[str, ...]] = {ECHO: ECHO_COMMAND}
    notes = ["NO ISOLATION: sessions are plain processes of this machine. Set DOCKER_HOST for containers."]
    absent = ""
    if settings.sessions.session_image != ECHO:
        report("Looking for OpenCode (fetched once through npm, 60 MB, when it is not installed).")
        found = await opencode.locate(settings.data_dir / "cache", search_path=os.environ.get("PATH", os.defpath))
        if isinstance(found, Missing):
            notes.append(f"Sessions run the echo agent, not OpenCode: {found.reason}")
            absent = f": {found.reason}"
        else:
            images[OPENCODE] = opencode.command(found.path)
    image = settings.sessions.session_image or (OPENCODE if OPENCODE in images else ECHO)
    if image not in images:
        why = absent if image == OPENCODE else f"; there are: {', '.join(sorted(images))}."
        raise RuntimeRefused(f"SESSION_IMAGE={image} cannot be had for local processes{why}")
    service = await stack.enter_async_context(LocalService(settings.data_dir / "local", images))
    model, note = _model(stack, settings, "127.0.0.1")
    return Runtime(
        docker=service,
        agent=_agent(settings, image, model, "ask"),
        summary=f"local processes, image {image}",
        notes=tuple(notes) + note,
    )


def _mock(settings: Settings) -> Runtime:
    model = Model("http://127.0.0.1:9/v1", "", MODEL)
    image = settings.sessions.session_image or ECHO
    agent = _agent(settings, image, model, "ask")
    return Runtime(docker=MockDockerService(), agent=agent, summary=f"mock containers, image {image}")


def _model(stack: AsyncExitStack, settings: Settings, reachable_host: str | None) -> tuple[Model, tuple[str, ...]]:
    """The model given, else the shipped stub, listening where sessions reach it and nowhere else."""
    if settings.model.model_base_url:
        return Model(settings.model.model_base_url, settings.model.model_api_key, settings.model.model_name), ()
    try:
        if reachable_host is None:
            raise OSError("the session network has no gateway address")
        stub = stack.enter_context(StubModel(reachable_host))
    except OSError as error:
        note = f"No model answers: sessions would not reach the stub model here ({error}). Set MODEL_BASE_URL."
        return Model("http://127.0.0.1:9/v1", "", MODEL), (note,)
    return Model(stub.base_url, "stub", MODEL), ()


def _agent(settings: Settings, image: str, model: Model, permission: opencode.Permission) -> Agent:
    def environment(model: Model) -> Mapping[str, str]:
        made = dict(
            opencode.environment(
                base_url=model.base_url, api_key=model.api_key, model=model.name, permission=permission, password=""
            )
        )
        del made["OPENCODE_SERVER_PASSWORD"]  # each container has its own
        return made

    allowed = {part.strip() for part in settings.sessions.session_images_allowed.split(",") if part.strip()}
    return Agent(default_image=image, allowed_images=frozenset(allowed), environment=environment, model=model)
