"""The page of ``sessions timeline``: a row a step, what went through the session between two, and when nothing did.

What a row shares with the ones above it (the day, the container, the generation) is not said again.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Final

from gateway.cli import durations, printing

_TITLES: Final = ("position", "at", "since", "what", "phase", "by", "told")
_LASTING: Final = ("container", "generation", "image")  # told where they change
_SILENT: Final = frozenset({"volumes", "runtime", "container_id", "expires_at"})  # in --json
_SIZES: Final = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_SOMEBODY: Final = {"key": "another key", "gateway": "the gateway", "operator": "an operator"}


def show(document: dict[str, Any], zone: tzinfo | None = None) -> None:
    """Print the answer of ``GET /sessions/{id}/timeline``, its times those of ``zone``."""
    printing.table(_TITLES, list(_rows(document["entries"], zone)))
    session = printing.shown(document["session_id"])
    printing.line(f"{session} is {document['phase']} at position {document['position']}.")
    if not document["complete"]:
        further = f"go on with --cursor {document['cursor']}, or take --all."
        printing.note(f"This is not all of it up to position {document['until']}: {further}")


def _rows(entries: Sequence[dict[str, Any]], zone: tzinfo | None) -> Iterator[tuple[object, ...]]:
    day: tuple[date, timedelta | None] | None = None
    lasting: dict[str, Any] = {}
    for entry in entries:
        moment = datetime.fromisoformat(entry["at"]).astimezone(zone)
        if day != (moment.date(), moment.utcoffset()):
            day = (moment.date(), moment.utcoffset())
            yield (" ", f"{moment:%Y-%m-%d} {moment.isoformat()[-6:]}", *" " * 5)
        facts = _changed(entry["facts"], lasting) if entry["kind"] == "step" else {}
        yield _row(entry, moment.strftime("%H:%M:%S.%f")[:-3], facts)


def _changed(facts: dict[str, Any], lasting: dict[str, Any]) -> dict[str, Any]:
    """The facts that say something new."""
    told = {
        name: value
        for name, value in facts.items()
        if value is not False and name not in _SILENT and not (name in _LASTING and lasting.get(name) == value)
    }
    lasting.update({name: facts[name] for name in _LASTING if name in facts})
    return {
        name.removesuffix("_us"): durations.told(value) if name.endswith("_us") and isinstance(value, int) else value
        for name, value in told.items()
    }


def _row(entry: dict[str, Any], at: str, facts: dict[str, Any]) -> tuple[object, ...]:
    match entry["kind"]:
        case "step":
            since = entry["since_us"]
            told = printing.facts({"reason": entry["reason"], **facts, **_late(entry)})
            elapsed = "" if since is None else f"+{durations.told(since)}"
            return (entry["position"], at, elapsed, entry["type"], entry["phase"], _by(entry["who"]), told)
        case "use":
            first, last = entry["first_position"], entry["last_position"]
            return (first if first == last else f"{first}-{last}", at, "", _used(entry), "", "", _through(entry))
        case _:
            open_ = f"{entry['open']} streams or requests were open" if entry["open"] else ""
            return ("", at, "", f"nothing for {durations.told(entry['lasted_us'])}", "", "", open_)


def _late(entry: dict[str, Any]) -> dict[str, str]:
    return {} if entry["late_us"] is None else {"late": durations.told(entry["late_us"])}


def _by(who: dict[str, Any]) -> str:
    if who["id"] is None:
        return _SOMEBODY.get(who["kind"], "somebody else")
    told = f"{who['kind']}:{printing.shown(who['id'])}"
    return f"{told} for {printing.shown(who['on_behalf_of'])}" if who["on_behalf_of"] else told


def _used(entry: dict[str, Any]) -> str:
    for what in ("exchange", "check"):
        if entry[f"{what}s"]:
            return printing.count(entry[f"{what}s"], what)
    if entry["denials"]:
        return printing.count(sum(entry["denials"].values()), "denial")
    return f"token shown again {_times(entry['revealed'])}" if entry["revealed"] else "ends of exchanges"


def _through(entry: dict[str, Any]) -> str:
    parts = []
    if entry["failed"]:
        parts.append(f"{entry['failed']} failed")
    if entry["open"]:
        parts.append(f"{entry['open']} open")
    if entry["bytes_in"] or entry["bytes_out"]:
        parts.append(f"{_size(entry['bytes_in'])} in, {_size(entry['bytes_out'])} out")
    if entry["checks"] and entry["exchanges"]:
        parts.append(printing.count(entry["checks"], "check"))
    if entry["checks_failed"]:
        parts.append(f"{printing.count(entry['checks_failed'], 'check')} failed")
    if entry["denials"] and (entry["exchanges"] or entry["checks"]):
        parts.append(printing.count(sum(entry["denials"].values()), "denial"))
    parts += [f"{printing.shown(reason)} {count}" for reason, count in entry["denials"].items()]
    if entry["revealed"] and (entry["exchanges"] or entry["checks"] or entry["denials"]):
        parts.append(f"token shown again {_times(entry['revealed'])}")
    return ", ".join(parts)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _size(number: int) -> str:
    for size, unit in _SIZES:
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
