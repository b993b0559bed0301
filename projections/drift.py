"""Drift: what a table says of a key against what the log says of it, named field by field. Pure.

Hashes, sealed fields and what else opens something are not told, only that they differ: the report is for a terminal, a
ticket, a mail. So is what cannot be read: nobody knows what it holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

WITHHELD: Final = "(not shown)"
UNREADABLE: Final = "(cannot be read)"
ABSENT: Final = "(absent)"
_SECRET: Final = ("sha256", "auth_token", "hash", "token", "secret", "password", "credential")
_SEALED: Final = {"k", "n", "c"}
LONGEST: Final = 200  # characters of a value
Kind = Literal["missing", "extra", "changed"]


class Difference(msgspec.Struct, frozen=True):
    """``field``: a column, or ``state`` and the path within it."""

    field: str
    table: str
    log: str


class Drift(msgspec.Struct, frozen=True):
    """A row that is not what the log makes: missing, one that the log knows nothing of, or one that says otherwise."""

    key: str
    kind: Kind
    differences: tuple[Difference, ...] = ()


class Differing(Protocol):
    """How many rows differ, and how: none in the table, none in the log, another value."""

    @property
    def differing(self) -> int: ...
    @property
    def missing(self) -> int: ...
    @property
    def extra(self) -> int: ...
    @property
    def changed(self) -> int: ...


def words(found: Differing) -> str:
    """As in: 3 rows differ (2 missing, 1 changed)."""
    kinds = [f"{count} {kind}" for kind in ("missing", "extra", "changed") if (count := getattr(found, kind))]
    differ = "1 row differs" if found.differing == 1 else f"{found.differing} rows differ"
    return f"{differ} ({', '.join(kinds)})" if kinds else differ


def drift(
    key: str, table: Mapping[str, Any] | None, log: Mapping[str, Any] | None, fields: Sequence[str] = ()
) -> Drift:
    """The columns of one row on both sides, which differ; ``state`` is JSON in bytes.

    ``fields``: the names of a state that is kept as a list.
    """
    if table is None:
        return Drift(key, "missing")
    if log is None:
        return Drift(key, "extra")
    found = list[Difference]()
    for column in log:
        if column == "state":
            found += _within_state(table[column], log[column], fields)
        elif table[column] != log[column]:
            found.append(Difference(column, _told(column, table[column]), _told(column, log[column])))
    return Drift(key, "changed", tuple(found))


def _within_state(table: bytes, log: bytes, fields: Sequence[str]) -> Iterator[Difference]:
    if table == log:
        return
    known = _leaves(msgspec.json.decode(log), fields)
    try:
        said = _leaves(msgspec.json.decode(table), fields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield Difference("state", UNREADABLE, WITHHELD)
        return
    same = True
    sealed = [path for side in (said, known) for path, value in side.items() if _hides(value)]
    for path in sorted(said.keys() | known.keys()):
        mine, logs = said.get(path, ABSENT), known.get(path, ABSENT)
        if mine != logs or type(mine) is not type(logs):
            same = False
            hidden = _is_secret(path) or any(f"{path}.".startswith(f"{each}.") for each in sealed)
            told = (WITHHELD, WITHHELD) if hidden else (_text(mine), _text(logs))
            yield Difference(path, *told)
    if same:  # other bytes for equal JSON: order, spaces, a name twice
        yield Difference("state", "(equal JSON in other bytes)", "(as it is written)")


def _leaves(state: Any, fields: Sequence[str]) -> dict[str, Any]:
    if isinstance(state, list) and fields:
        state = {fields[n] if n < len(fields) else str(n): value for n, value in enumerate(state)}
    return {} if state == {} else _flat("state", state)


def _flat(path: str, value: Any) -> dict[str, Any]:
    """Leaves by path; a sealed field, an empty object and a list are leaves."""
    if not isinstance(value, dict) or not value or _is_sealed(value):
        return {path: value}
    return {leaf: found for name, inner in value.items() for leaf, found in _flat(f"{path}.{name}", inner).items()}


def _told(column: str, value: Any) -> str:
    if _is_secret(column) and value is not None:
        return WITHHELD
    if isinstance(value, str) and value.startswith(("{", "[")):  # jsonb comes as text
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return WITHHELD
        if _hides(value):
            return WITHHELD
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    text = value if isinstance(value, str) else value.isoformat() if hasattr(value, "isoformat") else _json(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _json(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return msgspec.json.encode(value).decode()


def _is_sealed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= _SEALED


def _hides(value: Any) -> bool:
    """Whether anything in it is sealed or named as a secret."""
    if isinstance(value, list):
        return any(map(_hides, value))
    if isinstance(value, dict):
        return _is_sealed(value) or any(name in _SECRET or _hides(inner) for name, inner in value.items())
    return False


def _is_secret(path: str) -> bool:
    return path.rpartition(".")[2] in _SECRET
