"""The laws of every projection, over any history: what makes live view, rebuild, replay and as-of one answer."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import RecordedEvent, session_stream
from events.memory import MemoryEventStore
from projections import asof
from projections.admission import Admission
from projections.api_keys import ApiKeys
from projections.gateways import Gateways
from projections.lifecycle import SEATED
from projections.projection import Projection, fold
from projections.session_state import Sessions
from tests.projections.histories import histories

PROJECTIONS: list[Projection[Any]] = [Sessions(), Admission(), ApiKeys(), Gateways()]
every_projection = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)


@every_projection
@given(history=histories, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_batch_boundaries_fold_alike(
    projection: Projection[Any], history: list[RecordedEvent], cuts: list[int]
) -> None:
    """Step by step, all at once, and in any pages: the tail's pages are chance."""
    whole = fold(projection, {}, history)
    stepwise: dict[str, Any] = {}
    for event in history:
        fold(projection, stepwise, [event])
    paged: dict[str, Any] = {}
    edges = [0, *sorted(cuts), len(history)]
    for start, end in itertools.pairwise(edges):
        fold(projection, paged, history[start:end])
    assert whole == stepwise == paged


@every_projection
@given(history=histories, again=st.integers(0, 60))
def test_an_event_told_twice_counts_once(projection: Projection[Any], history: list[RecordedEvent], again: int) -> None:
    """A reader that resumes from an older checkpoint meets events again."""
    whole = fold(projection, {}, history)
    assert fold(projection, dict(whole), history[max(0, len(history) - again) :]) == whole


@every_projection
@given(history=histories)
def test_states_survive_their_snapshot(projection: Projection[Any], history: list[RecordedEvent]) -> None:
    """What is kept in a table or snapshot and read again folds on as if it had never left."""
    states = fold(projection, {}, history)
    for key, state in states.items():
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=type(state)) == states[key]


@every_projection
@given(history=histories)
def test_unknown_events_change_nothing(projection: Projection[Any], history: list[RecordedEvent]) -> None:
    """An event of a later release is passed over."""
    future = [msgspec.structs.replace(event, type="session.teleported", schema_version=9) for event in history]
    assert fold(projection, {}, future) == {}


@given(history=histories)
def test_every_fact_folds_and_only_anomalies_count_what_is_out_of_place(history: list[RecordedEvent]) -> None:
    """``evolve`` is total: any mixture of events folds without raising, and leaves the machine in a phase it has."""
    states = fold(Sessions(), {}, history)
    lifecycle = [event for event in history if event.type.startswith("session.")]
    for state in states.values():
        moves = sum(event.stream_id == session_stream(state.session_id) for event in lifecycle)
        assert state.generation <= len(state.containers) <= moves
        assert state.host is None or state.phase in SEATED


@given(history=histories, data=st.data())
async def test_as_of_equals_the_fold_of_the_prefix(history: list[RecordedEvent], data: st.DataObject) -> None:
    """As-of at every position is what the live view held then, for one session and for all."""
    store = MemoryEventStore()
    store.ledger.log = list(history)
    for event in history:
        store.ledger.streams.setdefault(event.stream_id, []).append(event)
    position = data.draw(st.integers(0, len(history)))
    live = fold(Sessions(), {}, history[:position])
    assert await asof.as_of(store, Sessions(), position) == live
    for session_id in ("a", "b"):
        assert await asof.session_as_of(store, session_id, position) == live.get(session_id)
