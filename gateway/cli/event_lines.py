"""An event of the log on one readable line: position, time, type, stream, who, what tells it apart; or all of it."""

from collections.abc import Iterable
from datetime import tzinfo
from typing import Any, Final

from gateway.cli import printing
from gateway.cli.columns import wide

# The column of the type says the first; hashes say nothing to a reader; the stream names session and container.
_SILENT: Final = frozenset({"type", "sha256", "secret_id", "asked"})
_NAMED_BY_STREAM: Final = {"session-": "session_id", "container-": "container", "gateway-": "instance"}


class Widths:
    """Of the columns of lines that stand below each other: as wide as what was shown so far, and never narrower again.

    A page is looked at as a whole before its first line; a tail can know only what came.
    """

    def __init__(self) -> None:
        self.type, self.stream, self.actor = 22, 38, 24

    def fit(self, events: Iterable[dict[str, Any]]) -> "Widths":
        """Make room for these."""
        for event in events:
            self.type = max(self.type, wide(event["type"]))
            self.stream = max(self.stream, wide(event["stream_id"]))
            self.actor = max(self.actor, wide(actor(event["actor"])))
        return self


def told(event: dict[str, Any], zone: tzinfo | None = None, widths: Widths | None = None) -> str:
    """An ``EventView`` as JSON gives it, on one line."""
    widths = (widths or Widths()).fit([event])
    moment = printing.when(event["recorded_at"], exact=True, zone=zone)
    cells = ((event["type"], widths.type), (event["stream_id"], widths.stream), (actor(event["actor"]), widths.actor))
    named = (text + " " * (width - wide(text)) for text, width in cells)
    return f"{event['position']:>8}  {moment}  {' '.join(named)} {_facts(event)}".rstrip()


def page(event: dict[str, Any], zone: tzinfo | None = None) -> list[str]:
    """All of an ``EventView``, a line a field, those of the payload below; nothing is left out or shortened."""
    facts = {
        "position": event["position"],
        "event": event["event_id"],
        "type": f"{event['type']}, version {event['schema_version']}",
        "stream": f"{event['stream_id']}, version {event['version']}",
        "recorded": printing.when(event["recorded_at"], exact=True, zone=zone),
        "occurred": printing.when(event["occurred_at"], exact=True, zone=zone),
        "actor": actor(event["actor"]),
        "key": event["actor"].get("key_id"),
        "assurance": event["actor"].get("assurance"),
        "cause": event["causation_id"],
        "request": event["correlation_id"],
        "trace": event["trace_id"],
        "span": event["span_id"],
    }
    if event.get("unreadable"):
        facts["UNREADABLE"] = event["unreadable"]
    lines = [f"{name:<10} {printing.shown(value)}" for name, value in facts.items()]
    fields = {name: value for name, value in event["payload"].items() if name != "type"}
    width = max(map(len, fields), default=0)
    return [*lines, "payload", *(f"  {name:<{width}}  {printing.shown(value)}" for name, value in fields.items())]


def actor(who: dict[str, Any]) -> str:
    """Who acted, and for whom."""
    name = f"{who['kind']}:{printing.shown(who['id'])}"
    return f"{name} for {printing.shown(who['on_behalf_of'])}" if who.get("on_behalf_of") else name


def _facts(event: dict[str, Any]) -> str:
    if event.get("unreadable"):
        return f"CANNOT BE READ ({len(event['payload']['raw'])} characters): events show {event['position']}"
    stream_id = event["stream_id"]
    silent = _SILENT | {field for prefix, field in _NAMED_BY_STREAM.items() if stream_id.startswith(prefix)}
    return printing.facts({name: value for name, value in event["payload"].items() if name not in silent})
