"""Who was refused, who read the log, which keys there are, who was erased. Streams ``system`` and ``keys``."""

from datetime import datetime

import msgspec

from events.envelope import Sealed


class AccessDenied(msgspec.Struct, frozen=True, kw_only=True, tag="access.denied"):
    """A request was refused. The actor is who asked, as far as it is known."""

    reason: str  # no_credential, bad_credential, revoked_credential, expired_credential, wrong_role, not_owner, ...
    status: int
    method: str
    route: str  # the route's template, never the path
    session_id: str | None = None
    client: Sealed | None = None


class ApiKeyCreated(msgspec.Struct, frozen=True, kw_only=True, tag="api_key.created"):
    key_id: str
    name: str
    role: str  # frontend, auditor, operator
    sha256: str  # hex, of the key's UTF-8 bytes
    expires_at: datetime | None = None


class ApiKeyRevoked(msgspec.Struct, frozen=True, kw_only=True, tag="api_key.revoked"):
    key_id: str


class LogRead(msgspec.Struct, frozen=True, kw_only=True, tag="log.read"):
    """Somebody read the log; the actor says who. Following is told at its beginning, without ``until``, and at its end,
    with it and caused by the beginning; an end that is missing is a crash's.

    ``purpose`` is sealed under the key of the owner whose session was read, and in clear where nobody's was.
    """

    what: (
        str  # a word: events, event, follow, as_of, replay, sessions, session, progress, all_progress, why, timeline,
        # access_history, sql
    )
    after: int | None = None
    until: int | None = None
    types: tuple[str, ...] = ()
    stream: str | None = None
    session_id: str | None = None
    actor: str | None = None  # of the events that were asked for: a key id, or kind:id
    trace_id: str | None = None  # hex
    correlation_id: str | None = None
    purpose: Sealed | str | None = None  # in the reader's words; sealed for the person whose session it was


class LogForkAccepted(msgspec.Struct, frozen=True, kw_only=True, tag="log.fork_accepted"):
    """An operator goes on with a log that lost events: a backup was restored, or a fail-over lost its end.

    What had been read up to ``same_until`` is in the log; what had been read at ``differs_from`` is not.
    """

    same_until: int
    differs_from: int  # a neighbour of same_until, unless the fork lies too far back to be named exactly
    known_until: int  # how far the data directory had seen the log


class SubjectErased(msgspec.Struct, frozen=True, kw_only=True, tag="subject.erased"):
    """The keys of one subject were destroyed: their sealed fields can never be opened again.

    ``key_ids``: and the id of a session that was its own subject, of which no field may say what it was sealed under.
    """

    key_ids: tuple[str, ...]
    reason: str
