"""What can be asked of a session: by people (open, stop, resume) and by what carries it out (mark ...)."""

from collections.abc import Callable

import msgspec

from events.catalogue import TokenIssued
from events.envelope import Sealed

Mint = Callable[[int], TokenIssued]
"""The session's token event for a serial; pure."""


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    container: str
    image: str
    runtime: str
    volumes: tuple[str, ...]
    opened_by: str
    owner: Sealed | None
    metadata: Sealed | None
    host_dir: Sealed | None = None
    host_dir_mac: str | None = None
    asked: Sealed | None = None
    instance: str
    mint: Mint


class ResumeSession(msgspec.Struct, frozen=True, kw_only=True):
    """Start a stopped or failed session again on its kept data, with a new container and a new token."""

    session_id: str
    container: str
    runtime: str
    instance: str
    mint: Mint


class StopSession(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    reason: str = "asked"


class RevealToken(msgspec.Struct, frozen=True, kw_only=True):
    """Show the token in force again."""

    session_id: str


class MarkReady(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    generation: int
    boot_us: int


class MarkFailed(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    generation: int
    reason: str
    detail: str


class MarkStopped(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    generation: int


class RemoveData(msgspec.Struct, frozen=True, kw_only=True):
    """Give up the kept data of an ended session."""

    session_id: str
    reason: str  # erased, policy


Ending = StopSession | MarkStopped
"""Always allowed: without the log they are facts, which wait in the spool."""
Command = OpenSession | ResumeSession | StopSession | RevealToken | MarkReady | MarkFailed | MarkStopped | RemoveData
