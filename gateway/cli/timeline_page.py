"""The page of ``sessions timeline``: a row a step, what went through the session between two, and when nothing did."""

from datetime import tzinfo
from typing import Any, Final

from gateway.cli import durations, printing

_TITLES: Final = ("position", "at", "since", "what", "phase", "by", "told")
_SIZES: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_SOMEBODY: Final = {"key": "another key", "gateway": "the gateway", "operator": "an operator"}


def show(document: dict[str, Any], zone: tzinfo | None = None) -> None:
    """Print the answer of ``GET /sessions/{id}/timeline``, its times those of ``zone``."""
    printing.table(_TITLES, [_row(entry, zone) for entry in document["entries"]])
    session = printing.shown(document["session_id"])
    printing.line(f"{session} is {document['phase']} at position {document['position']}.")
    if document["reached"] is not None:
        printing.note(f"This is not all of it: reading had to end at position {document['reached']}.")


def _row(entry: dict[str, Any], zone: tzinfo | None) -> tuple[object, ...]:
    at = printing.when(entry["at"], exact=True, zone=zone)
    match entry["kind"]:
        case "step":
            since = entry["since_us"]
            told = printing.facts({"reason": entry["reason"], **_plain(entry["facts"]), **_late(entry)})
            elapsed = "" if since is None else f"+{durations.told(since)}"
            return (entry["position"], at, elapsed, entry["type"], entry["phase"], _by(entry["who"]), told)
        case "use":
            first, last = entry["first_position"], entry["last_position"]
            return (first if first == last else f"{first}-{last}", at, "", _used(entry), "", "", _through(entry))
        case _:
            open_ = f"{entry['open']} streams or requests were open" if entry["open"] else ""
            return ("", at, "", f"nothing for {durations.told(entry['lasted_us'])}", "", "", open_)


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not False}


def _late(entry: dict[str, Any]) -> dict[str, str]:
    return {} if entry["late_us"] is None else {"late": durations.told(entry["late_us"])}


def _by(who: dict[str, Any]) -> str:
    if who["id"] is None:
        return _SOMEBODY.get(who["kind"], "somebody else")
    told = f"{who['kind']}:{printing.shown(who['id'])}"
    return f"{told} for {printing.shown(who['on_behalf_of'])}" if who["on_behalf_of"] else told


def _used(entry: dict[str, Any]) -> str:
    if not entry["exchanges"]:
        return _count(entry["checks"], "check") if entry["checks"] else "ends of exchanges"
    return _count(entry["exchanges"], "exchange")


def _through(entry: dict[str, Any]) -> str:
    parts = []
    if entry["failed"]:
        parts.append(f"{entry['failed']} failed")
    if entry["open"]:
        parts.append(f"{entry['open']} open")
    if entry["bytes_in"] or entry["bytes_out"]:
        parts.append(f"{_size(entry['bytes_in'])} in, {_size(entry['bytes_out'])} out")
    if entry["checks"] and entry["exchanges"]:
        parts.append(_count(entry["checks"], "check"))
    if entry["checks_failed"]:
        parts.append(f"{_count(entry['checks_failed'], 'check')} failed")
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _size(number: int) -> str:
    for size, unit in _SIZES:
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
