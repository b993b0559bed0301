"""An event of the log on one readable line: position, time, type, stream, who, and the facts that tell it apart."""

from typing import Any, Final

from gateway.cli import printing

# The column of the type says the first; hashes say nothing to a reader; the stream names session and container.
_SILENT: Final = frozenset({"type", "sha256", "secret_id", "asked"})
_NAMED_BY_STREAM: Final = {"session-": "session_id", "container-": "container", "gateway-": "instance"}


def told(event: dict[str, Any]) -> str:
    """An ``EventView`` as JSON gives it."""
    moment = printing.when(event["recorded_at"], exact=True)
    head = f"{event['position']:>8}  {moment}  {event['type']:<22} {event['stream_id']:<38}"
    return f"{head} {actor(event['actor']):<24} {_facts(event)}".rstrip()


def actor(who: dict[str, Any]) -> str:
    """Who acted, and for whom."""
    name = f"{who['kind']}:{printing.shown(who['id'])}"
    return f"{name} for {printing.shown(who['on_behalf_of'])}" if who.get("on_behalf_of") else name


def _facts(event: dict[str, Any]) -> str:
    stream_id = event["stream_id"]
    silent = _SILENT | {field for prefix, field in _NAMED_BY_STREAM.items() if stream_id.startswith(prefix)}
    return printing.facts({name: value for name, value in event["payload"].items() if name not in silent})
