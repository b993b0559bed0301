"""The tree of causes: every event once, roots that say why they are, and no log that it loops on."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.catalogue import (
    AlertCleared,
    AlertRaised,
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    Payload,
    SessionFailed,
    SessionReady,
    SessionRequested,
    SessionResumed,
    SessionStopped,
    SessionStopRequested,
    TokenIssued,
)
from events.codec import Cause
from events.envelope import RecordedEvent
from projections.causation import FOLD_OVER, MAX_DEPTH, Group, Link, Node, Tree, part, tree
from tests.factories import MOMENT, event, payload, raw, recorded

ABSENT = UUID(int=1 << 100)


def numbered(number: int) -> UUID:
    return UUID(int=number)


def chain(causes: Sequence[int | None], types: Sequence[str] = ("session.ready",)) -> list[RecordedEvent]:
    """A log in which event number n (from 1) is caused by number ``causes[n - 1]``; 0 is in no log."""
    return [
        recorded(
            raw(
                event_id=numbered(number),
                type=types[number % len(types)],
                causation_id=None if cause is None else (numbered(cause) if cause else ABSENT),
            ),
            position=number,
            version=number,
            recorded_at=MOMENT + timedelta(seconds=number),
        )
        for number, cause in enumerate(causes, start=1)
    ]


def walked(nodes: Sequence[Node], depth: int = 1) -> Iterator[tuple[Node, int]]:
    for node in nodes:
        yield node, depth
        yield from walked(node.children, depth + 1)


def positions(nodes: Sequence[Node]) -> list[int]:
    return [node.event.position for node in nodes]


def groups(whole: Tree) -> int:
    """How many events are told in groups."""
    return sum(group.events for group in all_groups(whole))


def all_groups(whole: Tree) -> list[Group]:
    return [*whole.groups, *(group for node, _ in walked(whole.roots) for group in node.groups)]


causes = st.lists(st.one_of(st.none(), st.integers(0, 60)), max_size=60)
kinds = st.lists(st.sampled_from(["session.ready", "token.issued", "exchange.completed"]), min_size=1, max_size=5)


@given(causes=causes, types=kinds)
def test_every_event_is_there_once_in_any_order_of_reading(causes: list[int | None], types: list[str]) -> None:
    log = chain(causes, types)
    whole = tree(log, fold_over=None)
    told = [node.event.position for node, _ in walked(whole.roots)]
    assert sorted(told) == list(range(1, len(log) + 1))
    assert whole.events == len(log) and groups(whole) == 0
    assert tree(reversed([*log, *log]), fold_over=None) == whole


@given(causes=causes, types=kinds)
def test_roots_are_those_whose_cause_is_not_there(causes: list[int | None], types: list[str]) -> None:
    """And one of each circle. Beside each other, events stand in the order of the log."""
    log = chain(causes, types)
    whole = tree(log, fold_over=None)
    known = {each.event_id for each in log}
    for node, _ in walked(whole.roots):
        assert positions(node.children) == sorted(positions(node.children))
        for child in node.children:
            assert child.link is Link.CAUSE and child.event.causation_id == node.event.event_id
            assert child.since_cause == child.event.recorded_at - node.event.recorded_at
    assert positions(whole.roots) == sorted(positions(whole.roots))
    for root in whole.roots:
        cause = root.event.causation_id
        assert (root.link is Link.ROOT) == (cause is None)
        assert (root.link is Link.CYCLE) == (cause in known)
        assert (root.link is Link.MISSING) == (cause is not None and cause not in known)
    rootless = {each.event_id for each in log if each.causation_id is None or each.causation_id not in known}
    assert rootless == {root.event.event_id for root in whole.roots if root.link is not Link.CYCLE}


@given(causes=causes, types=kinds, over=st.integers(0, 4), asked=st.lists(st.integers(1, 60), max_size=3))
def test_nothing_is_lost_in_groups(causes: list[int | None], types: list[str], over: int, asked: list[int]) -> None:
    """What was asked for, and what led to it, is never hidden in one."""
    log = chain(causes, types)
    wanted = {numbered(number) for number in asked if number <= len(log)}
    whole = tree(log, asked=wanted, fold_over=over)
    shown = [node for node, _ in walked(whole.roots)]
    assert len(shown) + groups(whole) == len(log) == whole.events
    assert wanted <= {node.event.event_id for node in shown}
    for group in all_groups(whole):
        assert group.count > over and group.events >= group.count
        assert group.first.type == group.last.type == group.type
        assert group.first.position < group.last.position or group.count == 1


def test_an_event_that_names_itself_is_a_root() -> None:
    (root,) = tree(chain([1])).roots
    assert (root.link, root.children) == (Link.CYCLE, ())


def test_a_circle_is_opened_at_its_first_event_and_what_hangs_on_it_stays() -> None:
    """4 -> 3 -> 2 -> 4, and 5 under 3: one root, in the order of causes."""
    whole = tree(chain([None, 4, 2, 3, 3]))
    assert positions(whole.roots) == [1, 2]
    circle = whole.roots[1]
    assert circle.link is Link.CYCLE
    assert [(node.event.position, node.link) for node, _ in walked(circle.children)] == [
        (3, Link.CAUSE),
        (4, Link.CAUSE),
        (5, Link.CAUSE),
    ]


def test_a_cause_that_nobody_looked_for_is_not_called_missing() -> None:
    (root,) = tree(chain([0]), unread={ABSENT}).roots
    assert root.link is Link.UNREAD
    assert tree(chain([0])).roots[0].link is Link.MISSING


def test_an_effect_before_its_cause_hangs_under_it_all_the_same() -> None:
    """What waited in a spool comes late."""
    (root,) = tree(chain([2, None])).roots
    (late,) = root.children
    assert (root.event.position, late.event.position, late.since_cause) == (2, 1, timedelta(seconds=-1))


@pytest.mark.parametrize("length", [MAX_DEPTH, MAX_DEPTH + 1, 5_000])
def test_a_chain_of_any_length_is_told_to_its_end(length: int) -> None:
    """Readers of JSON, and we, can only go so deep."""
    log = chain([None, *range(1, length)])
    whole = tree(log, fold_over=None)
    depths = {node.event.position: (depth, node.link) for node, depth in walked(whole.roots)}
    assert sorted(depths) == list(range(1, length + 1))
    assert max(depth for depth, _ in depths.values()) <= MAX_DEPTH
    assert {link for position, (_, link) in depths.items() if position > MAX_DEPTH} <= {Link.FURTHER}
    assert {link for position, (_, link) in depths.items() if 1 < position <= MAX_DEPTH} == {Link.CAUSE}


def test_a_deep_event_that_is_asked_for_is_shown() -> None:
    last = 500
    whole = tree(chain([None, *range(1, last)]), asked={numbered(last)})
    assert last in [node.event.position for node, _ in walked(whole.roots)]
    assert groups(whole) == last - MAX_DEPTH


def told(*payloads: Payload) -> list[Node]:
    """The payloads as a log, a second apart, each caused by the first."""
    log, first = [], None
    for number, each in enumerate(payloads, start=1):
        data = event(each, cause=Cause(causation_id=first))
        first = first or data.event_id
        log.append(recorded(data, position=number, recorded_at=MOMENT + timedelta(seconds=number)))
    return [node for node, _ in walked(tree(log).roots)]


def test_what_begins_lasts_until_its_own_end() -> None:
    nodes = told(
        payload(SessionRequested),
        payload(TokenIssued),
        payload(ExchangeOpened, exchange_id="a"),
        payload(ExchangeOpened, exchange_id="b"),
        payload(ExchangeClosed, exchange_id="b"),
        payload(SessionReady),
        payload(SessionStopRequested),
        payload(SessionStopped),
        payload(SessionResumed),
        payload(SessionFailed, generation=2),
        payload(AlertRaised),
        payload(AlertCleared),
        payload(AlertRaised),
    )
    ended = {node.event.position: node.ended_by.position for node in nodes if node.ended_by is not None}
    assert ended == {1: 6, 4: 5, 7: 8, 9: 10, 11: 12}
    lasted = {node.event.position: node.lasted for node in nodes}
    assert lasted[1] == timedelta(seconds=5)
    assert lasted[3] is None, "it has not ended"
    assert lasted[13] is None, "the one that was cleared came before"


def test_an_exchange_says_itself_how_long_it_took() -> None:
    (node,) = told(payload(ExchangeCompleted, duration_us=1_500))
    assert (node.lasted, node.ended_by) == (timedelta(microseconds=1_500), None)


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"duration_us":true}', b'{"duration_us":-1}', b'{"duration_us":1e300}']
)
def test_a_payload_that_nobody_should_have_written_takes_no_time(body: bytes) -> None:
    (node,) = tree([recorded(raw(type="exchange.completed", payload=body))]).roots
    assert node.lasted is None


def test_thousands_beside_each_other_are_one_group() -> None:
    """Five thousand requests of one session hang under the token that they showed."""
    log = chain([None, *[1] * 5000], ["exchange.completed"])
    (root,) = tree(log).roots
    (group,) = root.groups
    assert (root.children, group.count, group.events) == ((), 5000, 5000)
    assert (group.first.position, group.last.position) == (2, 5001)
    few = tree(chain([None, *[1] * FOLD_OVER], ["exchange.completed"]))
    assert len(few.roots[0].children) == FOLD_OVER and few.roots[0].groups == ()


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(1, 9))
def test_parts_show_every_event_once_and_what_led_to_it(causes: list[int], most: int) -> None:
    """Whatever the log: going on where the one before ended shows everything, and no part is twice as long and more."""
    log, told, after = chain(causes), list[int](), 0
    while True:
        some = part(log, after=after, most=most, asked={numbered(1)})
        beyond = [one.position for one in some.events if one.position > after]
        upto = [position for position in beyond if some.reached is None or position <= some.reached]
        assert len(some.events) <= 2 * most + 1
        assert list(some.events) == [one for one in log if one in some.events]
        shown = {one.event_id for one in some.events}
        for one in some.events:
            cause = one.causation_id
            known = cause in {each.event_id for each in log}
            assert not known or (cause in shown) != (cause in some.left_out)
        told += upto
        if some.reached is None:
            break
        after = some.reached
    assert told == [one.position for one in log]


def test_what_led_to_a_part_is_in_it_as_far_as_there_is_room() -> None:
    log = chain([*range(30)])
    some = part(log, after=28, most=2)
    assert [one.position for one in some.events] == [27, 28, 29, 30]
    assert (some.left_out, some.reached) == (frozenset({numbered(26)}), None)
    links = [root.link for root in tree(some.events, unread=some.left_out).roots]
    assert links == [Link.UNREAD]
