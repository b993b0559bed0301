"""The page of ``why``: a heading, and a tree with a line an event. A terminal gets lines drawn, a file plain ASCII."""

import sys
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import Any, Final

import msgspec

from gateway.cli import durations, printing
from gateway.cli.event_lines import actor

# What tells one event of a type from another; the rest is in --json and in ``events list``.
_TELLING: Final = (
    *("session_id", "container", "generation", "serial", "name", "role"),
    *("method", "path", "route", "status", "bytes_out", "ended_by", "error", "exchanges", "failed"),
    *("exit_code", "oom_killed", "before", "after", "what", "reason", "detail", "image"),
)
_NAMED_ABOVE: Final = frozenset({"session_id", "container", "generation"})  # where the line above says the same
_CUT: Final = {
    "events": "there are more events than one page is made of",
    "sessions": "it has to do with more sessions than can be told of at once, so ask for one of them",
    "lookups": "its causes and effects are too many to be looked for one by one",
    "time": "it took too long to read on",
}


class Branch(msgspec.Struct, frozen=True):
    """Lines of text and what hangs under them."""

    lines: tuple[str, ...]
    below: "tuple[Branch, ...]" = ()


def show(document: dict[str, Any], zone: tzinfo | None = None) -> None:
    """Print the answer of ``GET /why``, its times those of ``zone``."""
    for text in heading(document):
        printing.line(text)
    printing.line("")
    branches = tree(document, zone)
    if sys.stdout.isatty():
        _draw(branches)
    else:
        for text in plain(branches):
            printing.line(text)
    if (cut := document["cut"]) is not None:
        printing.note(cut_short(cut))


def heading(document: dict[str, Any]) -> list[str]:
    """What it is of, and how much there is of it."""
    asked = document["asked"]
    count = document["events"]
    told = [f"why      {asked['kind']} {printing.shown(asked['id'])}"]
    told += [f"session  {printing.shown(session)}" for session in document["sessions"] if session != asked["id"]]
    return [*told, f"log      {printing.count(count, 'event')} up to position {document['position']}"]


def cut_short(cut: dict[str, Any]) -> str:
    """That not everything is there, in a sentence."""
    if cut["reason"] == "shown":
        return f"This is not all of it: it goes on with --all --after {cut['reached']}."
    told = f"This is not all of it: {_CUT.get(cut['reason'], cut['reason'])}."
    if cut["reached"] is not None:
        told += f" Read up to position {cut['reached']}."
    if cut["unsearched"]:
        told += f" What {cut['unsearched']} of the events led to was not looked for."
    return told


def tree(document: dict[str, Any], zone: tzinfo | None = None) -> tuple[Branch, ...]:
    """The roots, and under them what they led to."""
    roots = [_branch(node, None, zone) for node in document["roots"]]
    return (*roots, *(_group(group, zone) for group in document["more"]))


def plain(branches: Sequence[Branch]) -> Iterator[str]:
    """The tree in ASCII, a line each."""
    for branch in branches:
        yield from _own(branch, "", branch.lines[0])
        yield from _below(branch.below, "")


def _below(branches: Sequence[Branch], indent: str) -> Iterator[str]:
    for number, branch in enumerate(branches, start=1):
        is_last = number == len(branches)
        rest = indent + ("    " if is_last else "|   ")
        yield from _own(branch, rest, f"{indent}{'`-- ' if is_last else '|-- '}{branch.lines[0]}")
        yield from _below(branch.below, rest)


def _own(branch: Branch, indent: str, first: str) -> Iterator[str]:
    yield first
    for text in branch.lines[1:]:
        yield f"{indent}{'|   ' if branch.below else '    '}{text}"


def _draw(branches: Sequence[Branch]) -> None:
    """The same with lines of a terminal's own, broken at its width."""
    from rich.console import Console  # here: 0.1 s that --json need not wait for
    from rich.text import Text
    from rich.tree import Tree

    console = Console(highlight=False, markup=False)
    for branch in branches:
        top = Tree(Text("\n".join(branch.lines)))
        waiting = [(branch, top)]
        while waiting:
            above, drawn = waiting.pop()
            waiting += [(each, drawn.add(Text("\n".join(each.lines)))) for each in above.below]
        with console.capture() as captured:  # printed by us: rich would end the process when the reader has left
            console.print(top)
        printing.line(captured.get().rstrip("\n"))


def _branch(node: dict[str, Any], above: dict[str, Any] | None, zone: tzinfo | None) -> Branch:
    """``above``: the event that it hangs under."""
    event = node["event"]
    children = [_branch(child, event, zone) for child in node["children"]]
    groups = [_group(group, zone) for group in node["more"]]
    return Branch((_line(node, above, zone), *_remarks(node, above, zone)), (*children, *groups))


def _line(node: dict[str, Any], above: dict[str, Any] | None, zone: tzinfo | None) -> str:
    event = node["event"]
    since = node["since_cause_us"]
    told = [
        f"{'=> ' if node['asked'] else ''}#{event['position']} {printing.shown(event['type'])}",
        printing.when(event["recorded_at"], exact=True, zone=zone) if since is None else f"+{durations.told(since)}",
    ]
    if above is None or actor(event["actor"]) != actor(above["actor"]):
        told.append(f"by {actor(event['actor'])}")
    if node["lasted_us"] is not None:
        until = f" until #{node['ended_by']}" if node["ended_by"] is not None else ""
        told.append(f"lasted {durations.told(node['lasted_us'])}{until}")
    told.append(_facts(event, above))
    return "  ".join(part for part in told if part)


def _facts(event: dict[str, Any], above: dict[str, Any] | None) -> str:
    payload, over = event["payload"], above["payload"] if above is not None else {}
    return printing.facts(
        {
            name: payload[name]
            for name in _TELLING
            if payload.get(name) not in (None, False) and not (name in _NAMED_ABOVE and payload[name] == over.get(name))
        }
    )


def _remarks(node: dict[str, Any], above: dict[str, Any] | None, zone: tzinfo | None) -> Iterator[str]:
    event = node["event"]
    if event["trace_id"] is not None and (above is None or event["trace_id"] != above["trace_id"]):
        yield f"trace {event['trace_id']} span {event['span_id'] or printing.NOTHING}"
    if node["note"] is not None:
        yield node["note"]
    if node["late_us"] is not None:
        happened = printing.when(event["occurred_at"], exact=True, zone=zone)
        yield f"It happened at {happened}; the log had it {durations.told(node['late_us'])} later."


def _group(group: dict[str, Any], zone: tzinfo | None) -> Branch:
    more = group["events"] - group["count"]
    effects = f", and {more} that they led to" if more else ""
    first, last = (printing.when(group[end], zone=zone) for end in ("first_at", "last_at"))
    return Branch(
        (
            f"{group['count']} x {printing.shown(group['type'])}{effects}  "
            f"#{group['first_position']} to #{group['last_position']}  {first} to {last}  (--all shows each)",
        )
    )
