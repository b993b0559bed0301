"""What runs in a session: its image, its environment, and where its data lies. Pure.

The agent's data (its conversations) and the workspace are named volumes of the session, so a restart or a resume finds
the same conversation.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from docker import names
from docker.service import HostDir, Mount, Volume
from gateway.access.tokens import USERNAME

PORT: Final = 4096
HOME: Final = "/home/app"
WORKSPACE: Final = "/workspace"


class Model(msgspec.Struct, frozen=True):
    """The model server as the agent reaches it."""

    base_url: str
    api_key: str
    name: str


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """How sessions are furnished on this runtime."""

    default_image: str
    allowed_images: frozenset[str]
    environment: Callable[[Model], Mapping[str, str]]  # the agent's own settings; the credential is added here
    model: Model

    def allows(self, image: str) -> bool:
        return image == self.default_image or image in self.allowed_images

    def environment_for(self, credential: str) -> dict[str, str]:
        """What the container gets; the credential is known to it and the gateway alone."""
        return {
            **self.environment(self.model),
            "OPENCODE_SERVER_USERNAME": USERNAME,
            "OPENCODE_SERVER_PASSWORD": credential,
        }


def volume_names() -> tuple[str, str]:
    """Fresh names for a session's two volumes: the agent's home and the workspace."""
    return names.volume_name("home"), names.volume_name("workspace")


def mounts(kept: tuple[str, ...], labels: Mapping[str, str], folder: str | None = None) -> tuple[Mount, ...]:
    """The volumes ``kept``, home first. ``folder``: path of the host's folder that is the workspace instead."""
    home = Volume(kept[0], HOME, labels)
    return home, HostDir(folder, WORKSPACE) if folder else Volume(kept[1], WORKSPACE, labels)
