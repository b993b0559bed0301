"""Each law is broken here on purpose, by a fold with one mistake in it: a law that nothing breaks shows nothing."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from hypothesis import Phase, Verbosity, given, settings
from hypothesis import strategies as st

from events import codec
from events.catalogue import Payload
from events.envelope import RecordedEvent
from events.registry import EVENT_TYPES
from projections.admission import Admission, Seats
from projections.exchanges import Exchanges, ExchangeState
from projections.session_state import Sessions, SessionState
from projections.table import Table
from projections.tables import SESSIONS
from tests.factories import SAMPLES
from tests.laws import laws
from tests.laws.strategies import disturbed, histories, short_histories, with_the_future

# Hypothesis shows the history that it found, and some are long.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
places = st.integers(0, 40)
# The smallest history that shows it is of no interest here: any one will do.
found = settings(phases=[Phase.generate], max_examples=1000, database=None, verbosity=Verbosity.quiet)


class Forgetful(Exchanges):
    """Does not look whether it was told this before."""

    def evolve(self, state: ExchangeState | None, event: RecordedEvent, payload: Payload) -> ExchangeState | None:
        return super().evolve(state and msgspec.structs.replace(state, position=0), event, payload)


class Remembering(Sessions):
    """Keeps something beside its states: what it folded before decides what comes out."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def evolve(self, state: SessionState | None, event: RecordedEvent, payload: Payload) -> SessionState | None:
        if event.type == "session.requested" and event.stream_id in self._told:
            return state
        self._told.add(event.stream_id)
        return super().evolve(state, event, payload)


class Scribbling(Admission):
    """Changes the seats that it was given, in place."""

    def evolve(self, state: Seats | None, event: RecordedEvent, payload: Payload) -> Seats | None:
        after = super().evolve(state, event, payload)
        if state is not None and after is not None and after is not state:
            state.taken.clear()
            state.taken.update(after.taken)
        return after


class Narrow(Sessions):
    """Forgot a type: the session's stream moves on without it."""

    types: Final = Sessions.types - {"token.revealed"}  # type: ignore[misc]  # the mistake


class Lenient(Sessions):
    """Takes every move for an allowed one."""

    def evolve(self, state: SessionState | None, event: RecordedEvent, payload: Payload) -> SessionState | None:
        after = super().evolve(state, event, payload)
        return after and msgspec.structs.replace(after, anomalies=0)


class Hasty(Sessions):
    """Ends a session as soon as its container is told to have died."""

    def evolve(self, state: SessionState | None, event: RecordedEvent, payload: Payload) -> SessionState | None:
        after = super().evolve(state, event, payload)
        died = event.type == "container.died" and after is not None and after.position == event.position
        return msgspec.structs.replace(after, generation=after.generation + 1) if after and died else after


class Forgiving(Table[SessionState], frozen=True, kw_only=True):
    """Keeps less than the fold goes on from."""

    def kept(self, state: SessionState) -> bytes:
        return super().kept(msgspec.structs.replace(state, anomalies=0))


def broken(law: Callable[..., Any], mistaken: Callable[[], Any], **drawn: st.SearchStrategy[Any]) -> None:
    """The law finds a history that such a projection folds wrongly."""

    @found
    @given(st.fixed_dictionaries(drawn))
    def holds(values: dict[str, Any]) -> None:
        answer = law(mistaken(), **values)
        if asyncio.iscoroutine(answer):
            asyncio.run(answer)

    with pytest.raises(AssertionError):
        holds()


def test_a_fold_that_counts_twice_is_caught() -> None:
    broken(laws.folds_once_what_is_told_twice, Forgetful, history=histories, start=places, length=places)


def test_a_fold_with_a_memory_of_its_own_is_caught() -> None:
    broken(laws.folds_alike_in_any_pages, Remembering, history=histories, cuts=st.lists(places, max_size=5))
    broken(laws.is_as_of_what_it_was_live, Remembering, history=short_histories)


def test_a_fold_that_writes_into_its_state_is_caught() -> None:
    broken(laws.leaves_held_states_alone, Scribbling, history=histories)


def test_a_type_that_was_forgotten_is_caught() -> None:
    with pytest.raises(AssertionError):
        laws.names_its_types(Narrow(), list(SAMPLES.values()))
    broken(laws.is_read_from_its_own_streams, Narrow, history=short_histories)


def test_an_anomaly_that_is_not_counted_is_caught() -> None:
    broken(laws.counts_what_is_not_allowed, Lenient, history=histories)


def test_a_fact_that_moves_a_session_is_caught() -> None:
    both = disturbed().map(lambda both: {"calm": both[0], "wild": both[1]})
    broken(lambda projection, told: laws.is_moved_by_decisions_alone(projection, **told), Hasty, told=both)


def test_a_table_that_keeps_less_than_the_state_is_caught() -> None:
    losing = Forgiving(**msgspec.structs.asdict(SESSIONS))
    broken(laws.goes_on_from_its_table, lambda: losing, history=histories, cut=places)


def test_a_codec_that_reads_what_it_does_not_know_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of a later release, read as the newest that is known here."""

    def daring(event: RecordedEvent) -> Any:
        known = EVENT_TYPES.get(event.type)
        return msgspec.json.decode(event.payload, type=known.payload) if known else codec.Unknown(event.type, b"")

    monkeypatch.setattr(codec, "decode", daring)

    @found
    @given(with_the_future())
    def holds(both: tuple[list[RecordedEvent], list[RecordedEvent]]) -> None:
        laws.passes_over_the_future(Sessions(), *both)

    with pytest.raises(msgspec.DecodeError):
        holds()
