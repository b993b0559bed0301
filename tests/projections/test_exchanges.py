"""The exchanges' fold: one state an exchange, sums of their own, and nothing that is told is lost."""

from datetime import timedelta

import msgspec
import pytest

from events import codec
from events.catalogue import (
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    ExchangeSummarized,
    Payload,
    SessionReady,
)
from projections.exchanges import Exchanges, ExchangeState
from projections.projection import fold
from tests.factories import MOMENT, history, payload

COMPLETED, OPENED, CLOSED = payload(ExchangeCompleted), payload(ExchangeOpened), payload(ExchangeClosed)
SUMMED = payload(ExchangeSummarized)


def folded(*payloads: Payload) -> dict[str, ExchangeState]:
    return fold(Exchanges(), {}, history("container-c1", payloads))


def test_a_completed_exchange_has_its_figures() -> None:
    state = folded(COMPLETED)["x1"]
    assert (state.kind, state.method, state.status, state.error) == ("http", "POST", 200, "upstream_timeout")
    assert (state.bytes_in, state.bytes_out, state.first_byte_us, state.failed) == (12, 345, 6_789, 1)
    assert state.began_at == MOMENT - timedelta(microseconds=7_890) and state.ended_at == MOMENT


def test_what_opened_and_did_not_close_is_open() -> None:
    state = folded(OPENED)["x1"]
    assert (state.kind, state.began_at, state.ended_at, state.exchanges) == ("sse", MOMENT, None, 1)


def test_a_closed_exchange_keeps_its_beginning() -> None:
    state = folded(OPENED, CLOSED)["x1"]
    assert (state.method, state.began_at, state.ended_at, state.ended_by) == ("GET", MOMENT, MOMENT, "client")
    assert (state.exchanges, state.anomalies) == (1, 0)


def test_an_end_that_is_told_first_waits_for_its_beginning() -> None:
    """Facts come in any order; the later telling fills in what was missing and opens nothing again."""
    alone, both = folded(CLOSED)["x1"], folded(CLOSED, OPENED)["x1"]
    assert (alone.method, alone.ended_at) == (None, MOMENT)
    assert (both.method, both.began_at, both.ended_at, both.anomalies) == ("GET", MOMENT, MOMENT, 0)


@pytest.mark.parametrize(
    "again",
    [
        (COMPLETED, COMPLETED),
        (OPENED, OPENED),
        (OPENED, CLOSED, CLOSED),
        (COMPLETED, OPENED),
        (COMPLETED, payload(ExchangeCompleted, session_id="s2")),
        (SUMMED, payload(ExchangeCompleted, exchange_id="sum:c1:queue_full")),
        (SUMMED, payload(ExchangeOpened, exchange_id="sum:c1:queue_full")),
        (payload(ExchangeCompleted, exchange_id="sum:c1:queue_full"), SUMMED),
    ],
    ids=lambda events: "+".join(type(event).__name__.removeprefix("Exchange") for event in events),
)
def test_what_contradicts_is_counted_and_changes_nothing_else(again: tuple[Payload, ...]) -> None:
    (first,), (state,) = folded(*again[:-1]).values(), folded(*again).values()
    assert state.anomalies == 1
    assert (state.exchanges, state.bytes_out, state.ended_at) == (first.exchanges, first.bytes_out, first.ended_at)


def test_sums_are_states_of_their_own_a_reason_each() -> None:
    later = payload(
        ExchangeSummarized,
        exchanges=3,
        failed=1,
        closed=0,
        first_at=MOMENT + timedelta(hours=1),
        last_at=MOMENT + timedelta(hours=2),
    )
    states = folded(SUMMED, later, payload(ExchangeSummarized, reason="interval"))
    assert set(states) == {"sum:c1:queue_full", "sum:c1:interval"}
    state = states["sum:c1:queue_full"]
    assert (state.kind, state.reason, state.exchanges, state.failed, state.closed) == ("sum", "queue_full", 20, 3, 3)
    assert (state.began_at, state.ended_at) == (MOMENT, later.last_at)


def test_a_sum_of_an_older_release_happened_when_it_was_told() -> None:
    state = folded(payload(ExchangeSummarized, first_at=None, last_at=None))["sum:c1:queue_full"]
    assert (state.began_at, state.ended_at) == (MOMENT, MOMENT)


def test_a_beginning_before_all_time_is_unknown() -> None:
    """The fold is total: a duration that no clock could show stops nothing."""
    (event,) = history("container-c1", [COMPLETED])
    odd = msgspec.structs.replace(event, payload=codec.canonical(payload(ExchangeCompleted, duration_us=2**70)))
    state = fold(Exchanges(), {}, [odd])["x1"]
    assert (state.began_at, state.ended_at) == (None, MOMENT)


def test_no_path_and_no_address_is_kept() -> None:
    fields = ExchangeState.__struct_fields__
    assert not {"path", "client", "owner"} & set(fields)


def test_other_events_are_nobodys() -> None:
    assert Exchanges().key(payload(SessionReady)) is None
