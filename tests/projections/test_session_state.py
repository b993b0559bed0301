"""The sessions' fold: given events, the state they make."""

from datetime import timedelta

import msgspec

from events.catalogue import ExchangeSummarized, Payload, SessionImported
from events.registry import EVENT_TYPES
from projections.lifecycle import Phase
from projections.projection import fold
from projections.session_state import Sessions, SessionState
from tests.factories import payload
from tests.projections.histories import one_of_each, record

REQUESTED, READY, FAILED, STOP, STOPPED = one_of_each("a", 1)[:5]
TOKEN, REVOKED, CREATED, STARTED, DIED, REMOVED, ADOPTED, _, USED = one_of_each("a", 1)[6:15]
READY_2, RESUMED = one_of_each("a", 2)[1], one_of_each("a", 2)[5]


def folded(*payloads: Payload) -> SessionState:
    return fold(Sessions(), {}, record(payloads))["a"]


def test_an_opened_session_is_ready_at_its_address() -> None:
    state = folded(REQUESTED, TOKEN, CREATED, STARTED, READY)
    assert (state.phase, state.host, state.port, state.anomalies) == (Phase.READY, "127.0.0.1", 4096, 0)
    assert state.token is not None and not state.token.revoked
    assert (state.version, state.position) == (3, 5)  # three of its five events are in its own stream


def test_a_stopped_session_keeps_its_data_and_loses_its_address() -> None:
    state = folded(REQUESTED, TOKEN, CREATED, STARTED, READY, STOP, REVOKED, REMOVED, STOPPED)
    assert (state.phase, state.host, state.volumes, state.anomalies) == (Phase.STOPPED, None, ("h", "w"), 0)
    assert state.token is not None and state.token.revoked


def test_a_resumed_session_is_the_next_generation() -> None:
    state = folded(REQUESTED, READY, STOP, STOPPED, RESUMED, READY_2)
    assert (state.phase, state.generation, state.containers) == (Phase.READY, 2, ("a-c1", "a-c2"))


def test_a_fact_of_a_former_generation_changes_nothing() -> None:
    """Its container may be told to have ended after its successor began; that is no anomaly."""
    state = folded(REQUESTED, READY, STOP, STOPPED, RESUMED, READY_2, REMOVED, DIED)
    assert (state.phase, state.container, state.anomalies) == (Phase.READY, "a-c2", 0)


def test_what_the_table_does_not_allow_is_counted() -> None:
    """A second ready, a stopped without a stop: facts come late and twice, and the fold stays what it was."""
    state = folded(REQUESTED, READY, READY, STOPPED)
    assert (state.phase, state.anomalies) == (Phase.READY, 2)


def test_a_dead_container_is_not_routed_to() -> None:
    assert folded(REQUESTED, CREATED, STARTED, READY, DIED).host is None


def test_a_session_that_ended_gets_no_address_from_a_late_fact() -> None:
    state = folded(REQUESTED, CREATED, READY, STOP, REMOVED, STOPPED, STARTED, ADOPTED)
    assert (state.phase, state.host, state.port, state.anomalies) == (Phase.STOPPED, None, None, 0)


def test_an_adopted_session_belongs_to_its_new_gateway() -> None:
    state = folded(REQUESTED, CREATED, STARTED, READY, ADOPTED)
    assert (state.instance, state.port) == ("g2", 4097)


def test_use_is_counted_without_moving_the_stream() -> None:
    """Exchanges must not make commands conflict: they are in the container's stream."""
    state = folded(REQUESTED, READY, USED, USED)
    assert (state.exchanges, state.version) == (2, 2)
    assert state.last_accessed is not None


def test_a_failed_session_says_why() -> None:
    state = folded(REQUESTED, FAILED)
    assert (state.phase, state.reason, state.detail) == (Phase.FAILED, "not_ready", "No answer.")


def test_every_event_of_the_sessions_stream_moves_its_version() -> None:
    """A command expects the stream's head: an event that the fold passes over would make it conflict for ever."""
    folded_kinds = [tag for tag in EVENT_TYPES if tag.startswith(("session.", "token."))]
    assert all(Sessions().key(payload(EVENT_TYPES[tag].payload)) for tag in folded_kinds)


def test_exchanges_that_were_told_as_a_sum_are_counted() -> None:
    """The queue was full: how many is known, and the session was used that often."""
    summed = payload(ExchangeSummarized, session_id="a", container="a-c1", exchanges=17)
    assert folded(REQUESTED, READY, USED, summed).exchanges == 18


def test_a_session_whose_exchanges_are_told_as_sums_was_used() -> None:
    """With ACCESS_EVENTS=summary there may be nothing else to see it by; sums of an older release had no times."""
    used = folded(REQUESTED, READY, USED).last_accessed
    assert used is not None
    later = used + timedelta(seconds=60)
    summed = payload(ExchangeSummarized, session_id="a", container="a-c1", last_at=later)
    assert folded(REQUESTED, READY, USED, summed).last_accessed == later
    assert folded(REQUESTED, READY, summed, USED).last_accessed == later
    timeless = msgspec.structs.replace(summed, first_at=None, last_at=None)
    assert folded(REQUESTED, READY, USED, timeless).last_accessed == used
    assert folded(REQUESTED, READY, timeless).last_accessed is None


def test_an_imported_session_is_a_record_that_has_ended() -> None:
    """It shows as the former manager's words say; nothing of it can be used, and no later event opens it again."""
    imported = one_of_each("a", 1)[-1]
    assert isinstance(imported, SessionImported)
    state = folded(imported)
    assert (state.phase, state.imported, state.reason) == (Phase.STOPPED, True, "imported")
    assert (state.created_at, state.containers, state.volumes) == (imported.created_at, (), ())
    assert folded(imported, REQUESTED).anomalies == 1
    assert folded(REQUESTED, imported) == msgspec.structs.replace(folded(REQUESTED), anomalies=1, version=2, position=2)
