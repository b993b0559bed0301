"""The judge of all other tests here: a log that lies in any one way is found out, a true one is not."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio

from events.envelope import ANY, NEW, ExpectedVersion, RecordedEvent, StreamWrite
from events.memory import MemoryEventStore
from tests.factories import event
from tests.failures.ledger import Ledger, sent, told
from tests.failures.verdict import hold

Log = list[RecordedEvent]


@pytest_asyncio.fixture
async def truth() -> tuple[Log, Ledger]:
    """Three units that were appended (3, 1 and 3 events), one that was refused, and one that nobody answered."""
    store, ledger = MemoryEventStore(), Ledger()
    units = (
        (_write("session-a", NEW, 2), _write("system", ANY, 1)),
        (_write("session-a", 2, 1),),
        (_write("session-a", 7, 1),),
        (_write("session-a", 3, 2), _write("keys", ANY, 1)),
    )
    for number, writes in enumerate(units):
        unit = sent("p", number, writes)
        ledger.note(unit)
        ledger.note(told(unit.name, await store.append(*writes)))
    ledger.note(sent("p", 4, (_write("session-a", 5, 2),)))
    log = await store.read_log()
    await store.close()
    return log, ledger


def _write(stream_id: str, expected: ExpectedVersion, events: int) -> StreamWrite:
    return StreamWrite(stream_id, expected, tuple(event() for _ in range(events)))


def test_a_true_log_is_believed(truth: tuple[Log, Ledger]) -> None:
    log, ledger = truth
    assert [told.outcome for told in ledger.told.values()] == ["appended", "appended", "conflict", "appended"]
    hold(log, ledger)


def _lost_unit(log: Log, ledger: Ledger) -> Log:
    return log[:4]


def _lost_event(log: Log, ledger: Ledger) -> Log:
    return log[:-1]


def _doubled(log: Log, ledger: Ledger) -> Log:
    return [*log, msgspec.structs.replace(log[-1], position=8, version=2)]


def _gap(log: Log, ledger: Ledger) -> Log:
    return [*log[:-1], msgspec.structs.replace(log[-1], position=8)]


def _version_gap(log: Log, ledger: Ledger) -> Log:
    return [*log[:-1], msgspec.structs.replace(log[-1], version=2)]


def _other_version(log: Log, ledger: Ledger) -> Log:
    ledger.note(msgspec.structs.replace(ledger.told["p/1"], versions=(4,)))
    return log


def _clock_back(log: Log, ledger: Ledger) -> Log:
    return [*log[:-1], msgspec.structs.replace(log[-1], recorded_at=log[0].recorded_at - timedelta(seconds=1))]


def _made_up(log: Log, ledger: Ledger) -> Log:
    return [*log, msgspec.structs.replace(log[-1], event_id=uuid4(), position=8, version=2)]


def _other_stream(log: Log, ledger: Ledger) -> Log:
    return [*log[:-1], msgspec.structs.replace(log[-1], stream_id="session-z")]  # version 1 there as well


def _refused_is_there(log: Log, ledger: Ledger) -> Log:
    [(_, refused)] = ledger.sent["p/2"].events
    return [*log, msgspec.structs.replace(log[-1], stream_id="session-a", event_id=refused, position=8, version=6)]


def _half_of_what_nobody_answered(log: Log, ledger: Ledger) -> Log:
    (_, first), _ = ledger.sent["p/4"].events
    return [*log, msgspec.structs.replace(log[-1], stream_id="session-a", event_id=first, position=8, version=6)]


def _torn_apart(log: Log, ledger: Ledger) -> Log:
    """The last event of the first unit and the second unit change places."""
    ids = [one.event_id for one in log]
    ids[2], ids[3] = ids[3], ids[2]
    streams = {event_id: stream for unit in ledger.sent.values() for stream, event_id in unit.events}
    return list(_renumbered(log, ids, streams))


def _other_order(log: Log, ledger: Ledger) -> Log:
    """The last unit comes before the second one; both were told as spooled, so no position was promised."""
    for name in ("p/1", "p/3"):
        ledger.note(msgspec.structs.replace(ledger.told[name], outcome="spooled"))
    ids = [log[number].event_id for number in (0, 1, 2, 4, 5, 6, 3)]
    streams = {event_id: stream for unit in ledger.sent.values() for stream, event_id in unit.events}
    return list(_renumbered(log, ids, streams))


def _renumbered(log: Log, ids: list[UUID], streams: dict[UUID, str]) -> Iterator[RecordedEvent]:
    heads: dict[str, int] = {}
    for one, event_id in zip(log, ids, strict=True):
        stream = streams[event_id]
        heads[stream] = heads.get(stream, 0) + 1
        yield msgspec.structs.replace(one, event_id=event_id, stream_id=stream, version=heads[stream])


def _other_answer(log: Log, ledger: Ledger) -> Log:
    """The duplicate of a unit is told with positions that are not its first."""
    ledger.note(msgspec.structs.replace(ledger.told["p/1"], outcome="duplicate", first_position=5, position=5))
    return log


@pytest.mark.parametrize(
    ("lie", "verdict"),
    [
        (_lost_unit, "was acknowledged and is not there"),
        (_lost_event, "is torn: "),
        (_doubled, "an event is there twice"),
        (_gap, "positions have a gap"),
        (_version_gap, "versions have a gap"),
        (_other_version, "has other versions"),
        (_clock_back, "the clock went back"),
        (_made_up, "what nobody sent"),
        (_other_stream, "is on other streams"),
        (_refused_is_there, "was refused and is there"),
        (_half_of_what_nobody_answered, "is torn: "),
        (_torn_apart, "is torn apart"),
        (_other_order, "changed places"),
        (_other_answer, "is not where it lies"),
    ],
)
def test_a_lie_is_found_out(truth: tuple[Log, Ledger], lie: Callable[[Log, Ledger], Log], verdict: str) -> None:
    """By the rule that it breaks, so that no rule of the judge could be left out."""
    log, ledger = truth
    told_so = lie(log, ledger)
    with pytest.raises(AssertionError, match=verdict):
        hold(told_so, ledger)
