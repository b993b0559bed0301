"""Legacy: the sessions file of the manager before this gateway, as events (spec row C5). Pure: text in, records out.

The file is JSON: a list of records, an object of records by session id, or either under ``sessions``. What a record
says is taken over as it was; what cannot be true of a session is refused with a reason, never guessed. The token of a
record is dropped before anything else looks at it.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import msgspec

STATUSES: Final = ("creating", "running", "stopped", "error")
TOKEN_FIELD: Final = "auth_token"
MAX_TEXT: Final = 16 * 1024  # bytes of each sealed field
_ID: Final = re.compile(r"(?!\.{1,2}$)[0-9A-Za-z_.-]{1,100}")  # "." and ".." would lead elsewhere as part of a path
_KNOWN: Final = (
    "session_id",
    "container_name",
    "container_id",
    "host_dir",
    "port",
    TOKEN_FIELD,
    "created_at",
    "last_accessed",
    "status",
    "metadata",
)


class NotASessionsFile(Exception):
    """The file holds no records of sessions. The text is a whole sentence."""


class LegacySession(msgspec.Struct, frozen=True, kw_only=True):
    """One record, in clear. ``metadata`` and ``rest`` are JSON texts."""

    session_id: str
    status: str
    created_at: datetime
    last_accessed: datetime | None
    container_name: str | None
    container_id: str | None
    port: int | None
    owner: str | None
    host_dir: str | None
    metadata: str | None
    rest: str | None


class RefusedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A record that is not taken over, and why."""

    row: int  # from 1
    session_id: str | None
    reason: str


class _Bad(Exception):
    """Why a record is refused."""


def read(
    text: str, *, now: datetime, zone: tzinfo | None = None, owner_field: str | None = None
) -> list[LegacySession | RefusedRow]:
    """Every record of the file, in its order. ``zone``: of times that name none (UTC when not given).

    ``owner_field``: the key of ``metadata`` that names whom the session was for. Raises NotASessionsFile.
    """
    found: list[LegacySession | RefusedRow] = []
    seen: set[str] = set()
    for row, (key, record) in enumerate(_records(text), start=1):
        session_id = None
        try:
            session_id = _session_id(key, record)
            if session_id in seen:
                raise _Bad("the session stands twice in the file")
            seen.add(session_id)
            session = _session(session_id, _without_tokens(record), zone, owner_field)
            _check_times(session, now)
            found.append(session)
        except _Bad as bad:
            found.append(RefusedRow(row=row, session_id=session_id, reason=str(bad)))
    return found


def _records(text: str) -> Iterable[tuple[str | None, Any]]:
    try:
        content = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotASessionsFile(f"The file is no JSON that can be taken over: {error}.") from error
    if isinstance(content, dict) and isinstance(content.get("sessions"), dict | list):
        content = content["sessions"]
    if isinstance(content, list):
        return [(None, record) for record in content]
    if isinstance(content, dict):
        return list(content.items())
    raise NotASessionsFile("The file holds neither a list of sessions nor an object of them.")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python would keep the last of two equal keys, and a session would be gone without a word."""
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object")
    return made


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _without_tokens(value: Any) -> Any:
    """The record without any field of that name, however deep: forks of the manager kept a copy in ``metadata``."""
    if isinstance(value, dict):
        return {name: _without_tokens(each) for name, each in value.items() if name != TOKEN_FIELD}
    return [_without_tokens(each) for each in value] if isinstance(value, list) else value


def _check_times(session: LegacySession, now: datetime) -> None:
    if session.created_at > now:
        raise _Bad("created_at is still to come")
    if session.last_accessed is not None and not session.created_at <= session.last_accessed <= now:
        raise _Bad("last_accessed is not between created_at and now")


def _session_id(key: str | None, record: Any) -> str:
    if not isinstance(record, dict):
        raise _Bad("the record is no object")
    given = record.get("session_id", key)
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise _Bad("session_id is not 1 to 100 letters, digits, '_', '.' or '-'")
    if key is not None and key != given:
        raise _Bad("session_id differs from the key that the record stands under")
    return given


def _session(session_id: str, record: Mapping[str, Any], zone: tzinfo | None, owner_field: str | None) -> LegacySession:
    status = record.get("status")
    if status not in STATUSES:
        raise _Bad(f"status is not one of {', '.join(STATUSES)}")
    if record.get("created_at") is None:
        raise _Bad("created_at is missing")
    metadata = record.get("metadata")
    if not isinstance(metadata, dict | None):
        raise _Bad("metadata is no object")
    return LegacySession(
        session_id=session_id,
        status=status,
        created_at=_moment(record["created_at"], "created_at", zone),
        last_accessed=_moment_or_none(record.get("last_accessed"), "last_accessed", zone),
        container_name=_text(record, "container_name"),
        container_id=_text(record, "container_id"),
        port=_port(record.get("port")),
        owner=_owner(metadata or {}, owner_field),
        host_dir=_text(record, "host_dir", MAX_TEXT),
        metadata=_json(metadata, "metadata") if metadata else None,
        rest=_rest(record),
    )


def _moment_or_none(value: Any, field: str, zone: tzinfo | None) -> datetime | None:
    return None if value is None else _moment(value, field, zone)


def _moment(value: Any, field: str, zone: tzinfo | None) -> datetime:
    """ISO 8601 text, or seconds since 1970."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=zone or UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise _Bad(f"{field} is neither an ISO 8601 time nor seconds since 1970")


def _text(record: Mapping[str, Any], field: str, limit: int = 256) -> str | None:
    value = record.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Bad(f"{field} is no text")
    if len(_encoded(value, field)) > limit:
        raise _Bad(f"{field} is longer than {limit} bytes")
    return value


def _port(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
        raise _Bad("port is not a number from 1 to 65535")
    return value


def _owner(metadata: Mapping[str, Any], owner_field: str | None) -> str | None:
    if owner_field is None or metadata.get(owner_field) in (None, ""):
        return None
    return _text({"owner": metadata[owner_field]}, "owner")


def _rest(record: Mapping[str, Any]) -> str | None:
    rest = {name: value for name, value in record.items() if name not in _KNOWN}
    return _json(rest, "the fields without a name here") if rest else None


def _json(value: Any, what: str) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if len(_encoded(text, what)) > MAX_TEXT:
        raise _Bad(f"{what} has more than {MAX_TEXT} bytes")
    return text


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise _Bad(f"{what} holds text that is not Unicode") from error
