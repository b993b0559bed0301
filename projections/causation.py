"""Causation: events as the tree of what made what happen. Pure; what to read for one is in ``related``.

An event hangs under the event that its ``causation_id`` names. One that has no such event here is a root, and says
why: it names no cause, or one that is not in the log, or one that was not read, or its causes lead back to itself.
The log is taken as it comes: restored, cut, or made by somebody hostile. Every event is in the tree once.
"""

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from events import codec
from events.envelope import RecordedEvent

MAX_DEPTH: Final = 50  # a longer chain goes on beside its fiftieth event, not under it: readers of JSON have limits
FOLD_OVER: Final = 10  # of one kind beside each other: more are told as one, with their number

# What ends what, and the fields of the payload in which both agree.
ENDS: Final[Mapping[str, tuple[frozenset[str], tuple[str, ...]]]] = {
    "session.requested": (frozenset({"session.ready", "session.failed"}), ("session_id", "generation")),
    "session.resumed": (frozenset({"session.ready", "session.failed"}), ("session_id", "generation")),
    "session.stop_requested": (frozenset({"session.stopped"}), ("session_id", "generation")),
    "token.issued": (frozenset({"token.revoked"}), ("session_id", "serial")),
    "container.started": (frozenset({"container.died", "container.lost", "container.removed"}), ("container",)),
    "exchange.opened": (frozenset({"exchange.closed"}), ("container", "exchange_id")),
    "admission.granted": (frozenset({"admission.released"}), ("session_id", "generation")),
    "alert.raised": (frozenset({"alert.cleared"}), ("instance", "name")),
    "gateway.started": (frozenset({"gateway.stopped", "gateway.crashed"}), ("instance",)),
}
_END_TYPES: Final = frozenset().union(*(types for types, _ in ENDS.values()))
_OWN_DURATION: Final = ("duration_us", "boot_us")  # fields in which an event says itself how long it took


class Link(enum.StrEnum):
    """Why an event stands where it does."""

    CAUSE = "cause"  # under the event that made it happen
    FURTHER = "further"  # beneath its cause by right, and beside it here: the chain is deeper than MAX_DEPTH
    ROOT = "root"  # it names no cause: somebody's request, or the gateway by itself
    MISSING = "missing"  # it names a cause that is not in the log
    UNREAD = "unread"  # it names a cause that was not looked for: reading was cut
    CYCLE = "cycle"  # its causes lead back to itself


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one kind beside each other, told as one. ``events`` counts what they caused, too."""

    type: str
    count: int
    events: int
    first: RecordedEvent
    last: RecordedEvent


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An event with what it caused, in order of position. Times are the log's."""

    event: RecordedEvent
    link: Link
    children: "tuple[Node, ...]" = ()
    groups: tuple[Group, ...] = ()
    since_cause: timedelta | None = None  # below zero when the log had the effect first
    lasted: timedelta | None = None  # until its own end, or as it says itself
    ended_by: RecordedEvent | None = None


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """Every event that was given, once: as a node, or counted in a group."""

    roots: tuple[Node, ...]
    groups: tuple[Group, ...] = ()
    events: int = 0


class _Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where each event hangs. ``order``: every event after the one it hangs under."""

    causes: dict[UUID, UUID]
    links: dict[UUID, Link]
    order: tuple[UUID, ...]
    children: dict[UUID | None, list[UUID]]  # None: the roots


def tree(
    events: Iterable[RecordedEvent],
    *,
    asked: Collection[UUID] = (),
    unread: Collection[UUID] = (),
    fold_over: int | None = FOLD_OVER,
) -> Tree:
    """The tree of ``events``. ``unread``: causes that nobody looked for. ``fold_over``: None tells every one singly.

    What was ``asked`` for is never told in a group, nor is what led to it.
    """
    known = {event.event_id: event for event in sorted(events, key=_position)}
    places = _places(known, unread)
    shown = _led_to(asked, places)
    ends = _ends(known.values())
    nodes: dict[UUID, Node] = {}
    sizes: dict[UUID, int] = {}
    for event_id in reversed(places.order):
        below = places.children.get(event_id, ())
        sizes[event_id] = 1 + sum(sizes[child] for child in below)
        children, groups = _folded(below, nodes, sizes, shown, fold_over)
        event, cause = known[event_id], places.causes.get(event_id)
        end = ends.get(event_id)
        nodes[event_id] = Node(
            event=event,
            link=places.links[event_id],
            children=children,
            groups=groups,
            since_cause=None if cause is None else event.recorded_at - known[cause].recorded_at,
            lasted=_own_duration(event) if end is None else end.recorded_at - event.recorded_at,
            ended_by=end,
        )
    roots, groups = _folded(places.children.get(None, ()), nodes, sizes, shown, fold_over)
    return Tree(roots=roots, groups=groups, events=len(known))


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some of many events. ``left_out``: causes that are known, and not among them. ``reached``: None at the end."""

    events: tuple[RecordedEvent, ...]
    left_out: frozenset[UUID]
    reached: int | None


def part(events: Iterable[RecordedEvent], *, after: int, most: int, asked: Collection[UUID] = ()) -> Part:
    """The first ``most`` events beyond the position ``after``, with what was asked for and what led to all these.

    Parts that go on where the one before ``reached`` show every event beyond ``after``. Of causes there are no more
    than ``most``, too: only a forged log has so many that none of them was shown before.
    """
    known = {event.event_id: event for event in sorted(events, key=_position)}
    beyond = [event for event in known.values() if event.position > after]
    waiting = [*(event_id for event_id in asked if event_id in known), *(event.event_id for event in beyond[:most])]
    chosen, room = set(waiting), most
    while waiting and room:
        cause = known[waiting.pop()].causation_id
        if cause in known and cause not in chosen:
            chosen.add(cause)
            waiting.append(cause)
            room -= 1
    shown = tuple(event for event_id, event in known.items() if event_id in chosen)
    causes = {event.causation_id for event in shown if event.causation_id in known}
    return Part(
        events=shown,
        left_out=frozenset(cause for cause in causes if cause is not None and cause not in chosen),
        reached=beyond[most - 1].position if len(beyond) > most else None,
    )


def _position(event: RecordedEvent) -> int:
    return event.position


def _places(known: Mapping[UUID, RecordedEvent], unread: Collection[UUID]) -> _Places:
    causes = {
        event_id: event.causation_id
        for event_id, event in known.items()
        if event.causation_id is not None and event.causation_id in known
    }
    links = {event_id: _link(event, unread) for event_id, event in known.items()}
    for event_id in _closing(causes, known):
        del causes[event_id]
        links[event_id] = Link.CYCLE
    effects: dict[UUID | None, list[UUID]] = {}
    for event_id in known:
        effects.setdefault(causes.get(event_id), []).append(event_id)
    children: dict[UUID | None, list[UUID]] = {None: effects.get(None, [])}
    order: list[UUID] = []
    waiting = [(event_id, 1) for event_id in children[None]]
    while waiting:
        event_id, depth = waiting.pop()
        order.append(event_id)
        for effect in effects.get(event_id, ()):
            links[effect] = Link.CAUSE
            waiting.append((effect, depth + 1))
            children.setdefault(event_id, []).append(effect)
    return _flattened(_Places(causes=causes, links=links, order=tuple(order), children=children))


def _link(event: RecordedEvent, unread: Collection[UUID]) -> Link:
    """That of an event which hangs under no other."""
    if event.causation_id is None:
        return Link.ROOT
    return Link.UNREAD if event.causation_id in unread else Link.MISSING


def _closing(causes: Mapping[UUID, UUID], known: Mapping[UUID, RecordedEvent]) -> list[UUID]:
    """The first event of every circle: each event has one cause at most, so one cut opens each."""
    first: list[UUID] = []
    seen: dict[UUID, int] = {}  # the walk in which it was met
    for number, start in enumerate(causes):
        at: UUID | None = start
        while at is not None and at not in seen:
            seen[at] = number
            at = causes.get(at)
        if at is not None and seen[at] == number:
            circle = [at]
            while (at := causes[circle[-1]]) != circle[0]:
                circle.append(at)
            first.append(min(circle, key=lambda event_id: known[event_id].position))
    return first


def _flattened(places: _Places) -> _Places:
    """No branch deeper than MAX_DEPTH: what would be hangs beside its cause, under the same event."""
    depths: dict[UUID, int] = {}
    above: dict[UUID, UUID | None] = {}
    links = dict(places.links)
    for event_id in places.order:
        cause = places.causes.get(event_id)
        if cause is not None and depths[cause] >= MAX_DEPTH:
            links[event_id] = Link.FURTHER
            above[event_id], depths[event_id] = above[cause], MAX_DEPTH
        else:
            above[event_id] = cause
            depths[event_id] = 1 if cause is None else depths[cause] + 1
    if Link.FURTHER not in links.values():
        return places
    rank = {event_id: number for number, event_id in enumerate(links)}  # in order of position
    children: dict[UUID | None, list[UUID]] = {}
    for event_id in sorted(places.order, key=rank.__getitem__):
        children.setdefault(above[event_id], []).append(event_id)
    return msgspec.structs.replace(places, links=links, children=children)


def _led_to(asked: Collection[UUID], places: _Places) -> set[UUID]:
    """What was asked for, and everything above it."""
    above = {child: event_id for event_id, below in places.children.items() for child in below}
    found: set[UUID] = set()
    for event_id in asked:
        at: UUID | None = event_id
        while at is not None and at in places.links and at not in found:
            found.add(at)
            at = above.get(at)
    return found


def _folded(
    below: Sequence[UUID],
    nodes: Mapping[UUID, Node],
    sizes: Mapping[UUID, int],
    shown: Collection[UUID],
    fold_over: int | None,
) -> tuple[tuple[Node, ...], tuple[Group, ...]]:
    """Those that are told singly, and a group for each kind of which there are too many."""
    kinds: dict[str, list[UUID]] = {}
    for event_id in below:
        if event_id not in shown:
            kinds.setdefault(nodes[event_id].event.type, []).append(event_id)
    many = {kind: ids for kind, ids in kinds.items() if fold_over is not None and len(ids) > fold_over}
    hidden = {event_id for ids in many.values() for event_id in ids}
    groups = tuple(
        Group(
            type=kind,
            count=len(ids),
            events=sum(sizes[event_id] for event_id in ids),
            first=nodes[ids[0]].event,
            last=nodes[ids[-1]].event,
        )
        for kind, ids in many.items()
    )
    return tuple(nodes[event_id] for event_id in below if event_id not in hidden), groups


def _ends(events: Iterable[RecordedEvent]) -> dict[UUID, RecordedEvent]:
    """For what began here, the first event beyond it that ends it."""
    ends: dict[UUID, RecordedEvent] = {}
    coming: dict[tuple[Any, ...], RecordedEvent] = {}
    for event in sorted(events, key=_position, reverse=True):
        begins = ENDS.get(event.type)
        if begins is None and event.type not in _END_TYPES:
            continue
        fields = facts(event)
        if begins is not None:
            end = coming.get((event.type, *_told(fields, begins[1])))
            if end is not None:
                ends[event.event_id] = end
        for begin, (types, names) in ENDS.items():
            if event.type in types:
                coming[(begin, *_told(fields, names))] = event
    return ends


def _told(fields: Mapping[str, Any], names: Iterable[str]) -> Iterable[str]:
    """As text, which a hostile payload cannot make unhashable."""
    return [str(fields.get(name)) for name in names]


def _own_duration(event: RecordedEvent) -> timedelta | None:
    fields = facts(event)
    for name in _OWN_DURATION:
        match fields.get(name):
            case bool():
                continue
            case int(number) if 0 <= number < 2**53:
                return timedelta(microseconds=number)
    return None


def facts(event: RecordedEvent) -> dict[str, Any]:
    """The fields of a payload, of any release; none when it is no object of JSON."""
    return codec.fields_of(event.payload) or {}
