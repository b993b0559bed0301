"""What is asked of a session and what became of it, with its tokens. Stream ``session-{id}``, versions checked."""

from datetime import datetime

import msgspec

from events.envelope import Sealed


class SessionRequested(msgspec.Struct, frozen=True, kw_only=True, tag="session.requested"):
    """A session was asked for and granted. The intent: it names the container before that is created."""

    session_id: str
    generation: int = 1  # nth container of the session
    container: str
    image: str
    runtime: str  # "docker", "local", "mock"
    volumes: tuple[
        str, ...
    ]  # named volumes that hold the agent's data and the workspace; with host_dir the first alone
    host_dir: Sealed | None = None  # folder of HOST_DIR_ROOT that is the workspace instead of a volume
    host_dir_mac: str | None = None  # hex; tells two equal folders without naming them
    opened_by: str  # key id: only this key (and operators) may see the session
    owner: Sealed | None = None
    metadata: Sealed | None = None
    asked: Sealed | None = None  # the request's body, when an Idempotency-Key must find it the same again
    instance: str  # the gateway that carries it out


class SessionReady(msgspec.Struct, frozen=True, kw_only=True, tag="session.ready"):
    """A real request was answered with the right body: the session can be used."""

    session_id: str
    generation: int
    container: str
    boot_us: int  # from the start of the container to that answer


class SessionFailed(msgspec.Struct, frozen=True, kw_only=True, tag="session.failed"):
    """The session cannot be used and will not mend itself; its data is kept and it can be resumed."""

    session_id: str
    generation: int
    reason: str  # a word: image_missing, daemon_down, not_ready, container_died, container_lost, daemon_failed,
    # host_dir_refused
    detail: str  # one sentence, no secret


class SessionStopRequested(msgspec.Struct, frozen=True, kw_only=True, tag="session.stop_requested"):
    """Somebody asked for the end; from here on nothing is proxied."""

    session_id: str
    generation: int
    reason: str  # a word: asked, gateway_stopped


class SessionStopped(msgspec.Struct, frozen=True, kw_only=True, tag="session.stopped"):
    """The container is gone; the data is kept."""

    session_id: str
    generation: int


class SessionResumed(msgspec.Struct, frozen=True, kw_only=True, tag="session.resumed"):
    """A stopped or failed session starts again on its kept data: the intent of the next generation."""

    session_id: str
    generation: int
    container: str
    image: str
    runtime: str
    instance: str


class SessionDataRemoved(msgspec.Struct, frozen=True, kw_only=True, tag="session.data_removed"):
    """The kept data of an ended session was given up: there is nothing left to resume.

    Told before the volumes are removed, so that no session is resumed on what is going; what a killed gateway leaves
    of them is removed by the next. A folder of the host is not removed.
    """

    session_id: str
    volumes: tuple[str, ...]
    reason: str  # a word: erased, policy


class SessionImported(msgspec.Struct, frozen=True, kw_only=True, tag="session.imported"):
    """A session of the manager before this gateway, for the record: it has ended, and neither its container nor its
    token nor its files are ours to use. The words of that manager are kept as they were."""

    session_id: str
    status: str  # what it said last: creating, running, stopped, error
    created_at: datetime
    last_accessed: datetime | None = None
    container_name: str | None = None
    container_id: str | None = None
    port: int | None = None
    opened_by: str  # key id that may see it; empty: operators and auditors only
    owner: Sealed | None = None
    host_dir: Sealed | None = None
    metadata: Sealed | None = None
    rest: Sealed | None = None  # fields of the record that have no name here; never its token


class TokenIssued(msgspec.Struct, frozen=True, kw_only=True, tag="token.issued"):
    """A session token came into force, and every earlier one of the session ended."""

    session_id: str
    serial: int  # nth token of the session
    sha256: str  # hex, of the token's UTF-8 bytes; the token itself is derived, never stored
    secret_id: str  # which secret it is derived from
    expires_at: datetime


class TokenRevealed(msgspec.Struct, frozen=True, kw_only=True, tag="token.revealed"):
    """An existing token was shown again to somebody entitled to it."""

    session_id: str
    serial: int


class TokenRevoked(msgspec.Struct, frozen=True, kw_only=True, tag="token.revoked"):
    """The session's token ended before its time."""

    session_id: str
    serial: int
    reason: str  # a word: stopped, failed
