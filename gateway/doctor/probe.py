"""A container that looks like a session's and belongs to nobody: made for a row, and gone after it."""

import base64
import datetime as dt
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from docker import names
from docker.agent import opencode
from docker.agent.model import MODEL
from docker.aiodocker_service import AiodockerService
from docker.image import ECHO_IMAGE, OPENCODE_IMAGE
from docker.service import ContainerInfo, Volume
from gateway.access.tokens import USERNAME
from gateway.doctor.row import Ended, Finding, failed
from gateway.doctor.surroundings import Surroundings
from gateway.sessions import agent

OWNER: Final = "doctor"  # no gateway's: a running one leaves it alone
FORGOTTEN: Final = dt.timedelta(minutes=10)


class Probe(msgspec.Struct, frozen=True):
    """A container that was made and not started; ``authorization`` opens its agent."""

    info: ContainerInfo
    authorization: bytes


@asynccontextmanager
async def probing(
    here: Surroundings, service: AiodockerService, command: tuple[str, ...] | None = None
) -> AsyncIterator[Probe]:
    """A fresh container of the session image, with its volumes. Raises Ended when there is no image.

    ``command`` is run instead of the image's agent.
    """
    image = await here.session_image(service)
    if image is None:
        raise Ended(_no_image(here.settings().sessions.session_image))
    await _sweep(service)
    password, name = secrets.token_urlsafe(24), names.container_name()
    labels = names.labels(OWNER, OWNER, name)
    volumes = (
        Volume(names.volume_name("home"), agent.HOME, labels),
        Volume(names.volume_name("workspace"), agent.WORKSPACE, labels),
    )
    try:
        info = await service.create_container(
            name,
            image,
            environment=_environment(password),
            labels=labels,
            volumes=volumes,
            port=agent.PORT,
            command=command,
        )
        credential = base64.b64encode(f"{USERNAME}:{password}".encode())
        yield Probe(info, b"Basic " + credential)
    finally:
        await service.remove_container(name, force=True)
        for volume in volumes:
            await service.remove_volume(volume.name)


def _no_image(wanted: str) -> Finding:
    if wanted in ("", OPENCODE_IMAGE):
        return failed(f"No image {wanted or 'for sessions'} is on the daemon's machine.", "Build one: make image.")
    todo = f"Build {wanted} on the daemon's machine, or load it (docker load), or correct SESSION_IMAGE."
    if wanted == ECHO_IMAGE:
        todo = "Build it: python -m docker.image echo."
    return failed(f"No image {wanted} is on the daemon's machine.", todo)


def _environment(password: str) -> dict[str, str]:
    """An agent with a model that does not answer: it is asked for nothing but its health."""
    made = opencode.environment(
        base_url="http://127.0.0.1:9/v1", api_key="", model=MODEL, permission="ask", password=password
    )
    return {**made, "OPENCODE_SERVER_USERNAME": USERNAME}


async def _sweep(service: AiodockerService) -> None:
    """Remove what a killed doctor left; a row that runs elsewhere now is left alone."""
    now = dt.datetime.now(dt.UTC)
    for info in await service.list_containers(all=True, labels=names.owned_by(OWNER)):
        if now - info.created_at > FORGOTTEN:
            await service.remove_container(info.id, force=True)
