"""Names and labels of what we make on a daemon.

A container's name is random: which session it serves is an event, not a rule about names. The labels say whose it is,
so that a gateway which lost everything else still finds its own containers and nobody else's.
"""

import re
import secrets

PREFIX = "session-gateway."
OWNER = f"{PREFIX}owner"  # which gateway (its log's id): two gateways may share one daemon
SESSION = f"{PREFIX}session"
NAME = f"{PREFIX}name"

_OURS = re.compile(r"gw-[0-9a-f]{16}")


def container_name() -> str:
    """A fresh name; 64 random bits, so two are never alike."""
    return f"gw-{secrets.token_hex(8)}"


def volume_name(purpose: str) -> str:
    """A fresh name that tells a reader of ``docker volume ls`` what the volume is for, such as ``home``."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", purpose):
        raise ValueError(f"A volume's purpose is a lower-case word, not {purpose!r}.")
    return f"{container_name()}-{purpose}"


def is_container_name(name: str) -> bool:
    """Whether ``container_name`` may have made it."""
    return _OURS.fullmatch(name) is not None


def labels(owner: str, session: str, name: str) -> dict[str, str]:
    """The labels of a container or volume ``name`` that serves ``session`` of the gateway ``owner``."""
    return {OWNER: owner, SESSION: session, NAME: name}


def owned_by(owner: str) -> dict[str, str]:
    """What to pass to ``list_containers`` to find everything of one gateway."""
    return {OWNER: owner}
