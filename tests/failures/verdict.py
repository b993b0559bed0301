"""Holds a log against the ledgers of those who wrote to it: nothing lost, doubled, torn, reordered or made up."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from uuid import UUID

import msgspec

from events.envelope import RecordedEvent
from tests.event_fixtures import LogDatabase, connection, open_store
from tests.failures.ledger import Ledger, Sent

# What append_batch keeps beside the events says the same as the events themselves.
DERIVED = {
    "heads": """
      select count(*) from log.streams s full join (select stream_id, max(version) v, min(position) f, max(position) l
        from log.events group by 1) e on e.stream_id = s.stream_id and (e.v, e.f, e.l)
        = (s.version, s.first_position, s.last_position) where s.stream_id is null or e.stream_id is null""",
    "keys": """
      select count(*) from log.event_key k full join log.events e using (event_id, position)
        where k.nth is null or e.version is null""",
    "tip": "select count(*) - 1 from log.tip full join (select max(position) p from log.events) e on e.p = position",
}


class Counts(msgspec.Struct, frozen=True):
    """Units, but for the last."""

    sent: int
    acknowledged: int
    retried: int
    duplicates: int
    spooled: int
    conflicts: int
    events_in_log: int

    def __str__(self) -> str:
        figures = msgspec.structs.asdict(self)
        return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in figures.items())


async def read_whole(database: LogDatabase) -> list[RecordedEvent]:
    """The log, by a store that had no part in writing it."""
    log: list[RecordedEvent] = []
    async with open_store(database.app_dsn) as store:
        while page := await store.read_log(after=len(log)):
            log += page
    return log


async def judge(database: LogDatabase, *ledgers: Ledger) -> Counts:
    """AssertionError names the first untruth; the counts are for the reader of the test."""
    log = await read_whole(database)
    hold(log, *ledgers)
    await _derived(database)
    return _counts(ledgers, len(log))


def hold(log: Sequence[RecordedEvent], *ledgers: Ledger) -> None:
    """AssertionError unless the log is whole and true to every ledger."""
    _whole(log)
    found = {one.event_id: one for one in log}
    for ledger in ledgers:
        for unit in ledger.sent.values():
            _held(unit, ledger, found)
        _in_order(ledger, found)
    ids = {event_id for ledger in ledgers for unit in ledger.sent.values() for _, event_id in unit.events}
    assert found.keys() <= ids, "the log holds what nobody sent"


def _whole(log: Sequence[RecordedEvent]) -> None:
    """Positions without a gap, versions without a gap, no id twice, a clock that never goes back."""
    assert [one.position for one in log] == list(range(1, len(log) + 1)), "positions have a gap"
    assert len({one.event_id for one in log}) == len(log), "an event is there twice"
    assert all(one.recorded_at <= after.recorded_at for one, after in pairwise(log)), "the clock went back"
    heads: dict[str, int] = {}
    for one in log:
        heads[one.stream_id] = heads.get(one.stream_id, 0) + 1
        assert one.version == heads[one.stream_id], f"versions have a gap at {one}"


async def _derived(database: LogDatabase) -> None:
    async with connection(database.admin_dsn) as admin:
        wrong = {name: await admin.fetchval(query) for name, query in DERIVED.items()}
    assert not any(wrong.values()), f"rows that differ from the events: {wrong}"


def _held(unit: Sent, ledger: Ledger, found: dict[UUID, RecordedEvent]) -> None:
    """A unit is in the log whole or not at all; acknowledged, it is there as it was told."""
    events = [found[event_id] for _, event_id in unit.events if event_id in found]
    told = ledger.told.get(unit.name)
    assert len(events) in (0, len(unit.events)), f"{unit} is torn: {events}"
    assert [one.position - events[0].position for one in events] == list(range(len(events))), f"{unit} is torn apart"
    streams = [stream for stream, _ in unit.events]
    assert [one.stream_id for one in events] in ([], streams), f"{unit} is on other streams"
    match told:
        case None:
            return
        case _ if told.outcome == "conflict":
            assert not events, f"{unit} was refused and is there"
            return
    assert events, f"{unit} was acknowledged and is not there: {told}"
    if told.outcome != "spooled":
        assert (told.first_position, told.position) == (events[0].position, events[-1].position), (
            f"{told} is not where it lies"
        )
        assert told.versions == tuple(one.version for one in events), f"{told} has other versions"


def _in_order(ledger: Ledger, found: dict[UUID, RecordedEvent]) -> None:
    """Each producer's units lie in the log in the order that it had them acknowledged."""
    producers: dict[str, list[int]] = {}
    for unit in ledger.sent.values():
        if (first := found.get(unit.events[0][1])) is not None:
            producers.setdefault(unit.producer, []).append(first.position)
    for producer, positions in producers.items():
        assert positions == sorted(positions), f"{producer}'s units changed places"


def _counts(ledgers: Iterable[Ledger], events_in_log: int) -> Counts:
    def total(*kinds: str) -> int:
        return sum(len(ledger.outcomes(*kinds)) for ledger in ledgers)

    return Counts(
        sent=sum(len(ledger.sent) for ledger in ledgers),
        acknowledged=total("appended", "duplicate", "spooled"),
        retried=sum(len(ledger.tried) for ledger in ledgers),
        duplicates=total("duplicate"),
        spooled=total("spooled"),
        conflicts=total("conflict"),
        events_in_log=events_in_log,
    )
