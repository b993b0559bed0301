"""The laws of every projection, over any history: what makes live view, rebuild, replay and as-of one answer.

A law runs over all projections in turn, so that each of them meets each history. ``test_laws_can_fail`` breaks them.
"""

from hypothesis import given
from hypothesis import strategies as st

from events.envelope import RecordedEvent
from events.memory import MemoryEventStore
from projections.projection import fold
from projections.session_state import Sessions
from projections.tables import TABLES
from projections.views import Views
from tests.factories import SAMPLES
from tests.laws import laws
from tests.laws.strategies import disturbed, histories, short_histories, with_the_future

PROJECTIONS: list[laws.AnyProjection] = [table.projection for table in TABLES]
places = st.integers(0, 40)


def test_every_projection_is_under_the_laws() -> None:
    """What a process keeps in memory is among what stands in tables."""
    kept = {projection.name for projection, _ in Views(MemoryEventStore()).folds}
    assert kept < {projection.name for projection in PROJECTIONS}


@given(history=histories, cuts=st.lists(places, max_size=5))
def test_any_batch_boundaries_fold_alike(history: list[RecordedEvent], cuts: list[int]) -> None:
    for projection in PROJECTIONS:
        laws.folds_alike_in_any_pages(projection, history, cuts)


@given(history=histories, start=places, length=places)
def test_an_event_told_twice_counts_once(history: list[RecordedEvent], start: int, length: int) -> None:
    for projection in PROJECTIONS:
        laws.folds_once_what_is_told_twice(projection, history, start, length)


@given(history=short_histories)
def test_a_state_never_changes_under_who_holds_it(history: list[RecordedEvent]) -> None:
    for projection in PROJECTIONS:
        laws.leaves_held_states_alone(projection, history)


@given(both=with_the_future())
def test_events_of_later_releases_change_nothing(both: tuple[list[RecordedEvent], list[RecordedEvent]]) -> None:
    for projection in PROJECTIONS:
        laws.passes_over_the_future(projection, *both)


@given(both=with_the_future())
async def test_an_unreadable_event_is_passed_over_by_everybody_alike(
    both: tuple[list[RecordedEvent], list[RecordedEvent]],
) -> None:
    await laws.passes_over_alike(both[0])


@given(history=histories, cut=places)
def test_states_go_on_from_their_table(history: list[RecordedEvent], cut: int) -> None:
    for table in TABLES:
        laws.goes_on_from_its_table(table, history, cut)


def test_types_are_those_that_concern_a_state() -> None:
    for projection in PROJECTIONS:
        laws.names_its_types(projection, list(SAMPLES.values()))


@given(history=short_histories)
async def test_rebuilt_and_live_and_as_of_are_one_at_every_position(history: list[RecordedEvent]) -> None:
    for projection in PROJECTIONS:
        await laws.is_as_of_what_it_was_live(projection, history)


@given(history=short_histories)
async def test_one_session_as_of_is_what_the_whole_system_says(history: list[RecordedEvent]) -> None:
    await laws.is_read_from_its_own_streams(Sessions(), history)


@given(history=histories)
def test_an_anomaly_is_what_the_lifecycle_does_not_allow(history: list[RecordedEvent]) -> None:
    laws.counts_what_is_not_allowed(Sessions(), history)


@given(both=disturbed())
def test_facts_out_of_order_and_twice_move_no_session(both: tuple[list[RecordedEvent], list[RecordedEvent]]) -> None:
    calm, wild = both
    laws.is_moved_by_decisions_alone(Sessions(), calm, wild)
    for projection in PROJECTIONS:
        fold(projection, {}, wild)  # none raises
