"""The laws themselves, each for one projection and one history; ``test_fold_laws`` runs them, the fakes break them."""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from events import codec
from events.envelope import RecordedEvent
from events.memory import MemoryEventStore
from projections import asof
from projections.lifecycle import SEATED, TRANSITIONS, Phase
from projections.projection import Projection, fold
from projections.session_state import SessionState
from projections.table import Table
from projections.views import Views
from tests.laws.strategies import NAMES

States = dict[str, Any]
AnyProjection = Projection[Any]


def folds_alike_in_any_pages(projection: AnyProjection, history: list[RecordedEvent], cuts: Sequence[int]) -> None:
    """Step by step, all at once, and in any pages: the tail's pages are chance."""
    whole = fold(projection, {}, history)
    stepwise: States = {}
    for event in history:
        fold(projection, stepwise, [event])
    paged: States = {}
    for start, end in itertools.pairwise([0, *sorted(cuts), len(history)]):
        fold(projection, paged, history[start:end])
    assert whole == stepwise == paged, projection.name


def folds_once_what_is_told_twice(
    projection: AnyProjection, history: list[RecordedEvent], start: int, length: int
) -> None:
    """A reader that resumes from an older checkpoint meets events again, wherever its page begins and ends."""
    whole = fold(projection, {}, history)
    assert fold(projection, dict(whole), history[start : start + length]) == whole, projection.name
    doubled = [event for event in history for _ in range(2)]
    assert fold(projection, {}, doubled) == whole, projection.name


def leaves_held_states_alone(projection: AnyProjection, history: list[RecordedEvent]) -> None:
    """A request holds a state while the tail folds on: what it holds must not change under it."""
    states: States = {}
    held: list[tuple[Any, bytes]] = []
    for event in history:
        fold(projection, states, [event])
        held += [(state, codec.canonical(state)) for state in states.values()]
    assert all(codec.canonical(state) == was for state, was in held), projection.name


def passes_over_the_future(projection: AnyProjection, mixed: list[RecordedEvent], known: list[RecordedEvent]) -> None:
    """Events of a later release, and unreadable ones, change nothing and stop nothing."""
    assert fold(projection, {}, mixed) == fold(projection, {}, known), projection.name


async def passes_over_alike(mixed: list[RecordedEvent]) -> None:
    """What one reader passes over, all do: views, folds, as-of, one session of its own streams."""
    log = stored(mixed)
    views = Views(log)
    passed: list[RecordedEvent] = []
    views.on_unreadable(passed.append)
    await views.load()
    for projection, states in views.folds:
        assert states == fold(projection, {}, mixed) == await asof.as_of(log, projection, len(mixed)), projection.name
    for session_id in NAMES:
        assert await asof.session_as_of(log, session_id, len(mixed)) == views.sessions.get(session_id)
    assert [each.position for each in passed] == [
        each.position for each in mixed if isinstance(codec.decode(each), codec.Unreadable)
    ], "each is told once"


def goes_on_from_its_table(table: Table[Any], history: list[RecordedEvent], cut: int) -> None:
    """What is kept in a table and read again folds on as if it had never left."""
    live = fold(table.projection, {}, history[:cut])
    again = {key: table.state_of(table.kept(state)) for key, state in live.items()}
    assert again == live, table.name
    rest = history[cut:]
    assert fold(table.projection, again, rest) == fold(table.projection, live, rest), table.name


def names_its_types(projection: AnyProjection, payloads: Sequence[Any]) -> None:
    """No event that concerns a state is passed over unread, and none is read for nothing."""
    concerned = {said.__struct_config__.tag for said in payloads if projection.key(said) is not None}
    assert concerned == projection.types, projection.name


async def is_as_of_what_it_was_live(projection: AnyProjection, history: list[RecordedEvent]) -> None:
    """Rebuilt = live = as-of at every position."""
    log, live = stored(history), States()
    for position, event in enumerate(history, start=1):
        fold(projection, live, [event])
        rebuilt = fold(projection, {}, history[:position])
        assert live == rebuilt == await asof.as_of(log, projection, position), (projection.name, position)


async def is_read_from_its_own_streams(projection: Projection[SessionState], history: list[RecordedEvent]) -> None:
    """One session as of a position must not see less than who reads everything."""
    log, live = stored(history), dict[str, SessionState]()
    for position, event in enumerate(history, start=1):
        fold(projection, live, [event])
        for session_id in NAMES:
            assert await asof.session_as_of(log, session_id, position) == live.get(session_id), position


def counts_what_is_not_allowed(projection: Projection[SessionState], history: list[RecordedEvent]) -> None:
    """Held against the lifecycle's machine, told here a second time in the plainest words."""
    own = [event for event in history if event.stream_id == "session-a" and event.type.startswith("session.")]
    state = fold(projection, {}, own).get("a") or SessionState(session_id="a")
    phase, generation, refused = Phase.ABSENT, 0, 0
    for event in own:
        if event.type == "session.data_removed":
            continue
        opens = event.type in ("session.requested", "session.resumed")
        told = msgspec.json.decode(event.payload).get("generation")
        if event.type in TRANSITIONS[phase] and told in (None, generation + opens):
            phase, generation = TRANSITIONS[phase][event.type], generation + opens
        else:
            refused += 1
    assert (state.phase, state.generation, state.anomalies) == (phase, generation, refused)


def is_moved_by_decisions_alone(
    projection: Projection[SessionState], calm: list[RecordedEvent], wild: list[RecordedEvent]
) -> None:
    """Facts told late, early and twice: the session stands where it stood, and nothing points at what is gone."""
    was, now = (fold(projection, {}, history)["a"] for history in (calm, wild))
    for name in ("phase", "generation", "container", "containers", "volumes", "version"):
        assert getattr(was, name) == getattr(now, name), name
    assert _credential(was) == _credential(now)
    facts = sum(not event.type.startswith(("session.", "token.")) for event in wild)
    assert now.anomalies <= facts
    assert now.host is None or now.phase in SEATED


def _credential(state: SessionState) -> tuple[int, bool] | None:
    return (state.token.serial, state.token.revoked) if state.token else None


def stored(history: list[RecordedEvent]) -> MemoryEventStore:
    """A log that holds this history as it is."""
    store = MemoryEventStore()
    store.ledger.log = list(history)
    for event in history:
        store.ledger.streams.setdefault(event.stream_id, []).append(event)
    return store
