"""The gateways: a start without an end is what reconciliation asks the leases about."""

from events.catalogue import GatewayCrashed, GatewayStarted, GatewayStopped, Payload
from projections.gateways import Gateways, GatewayState
from projections.projection import fold
from tests.factories import history, payload

STARTED, STOPPED, CRASHED = payload(GatewayStarted), payload(GatewayStopped), payload(GatewayCrashed)


def gateway(*payloads: Payload) -> GatewayState | None:
    return fold(Gateways(), {}, history("gateway-g1", payloads)).get("g1")


def test_a_start_has_an_open_end() -> None:
    state = gateway(STARTED)
    assert state is not None and (state.ended_at, state.crashed) == (None, False)


def test_an_end_is_clean_or_a_crash() -> None:
    clean, crash = gateway(STARTED, STOPPED), gateway(STARTED, CRASHED)
    assert clean is not None and clean.ended_at is not None and not clean.crashed
    assert crash is not None and crash.ended_at is not None and crash.crashed


def test_a_crash_is_told_once() -> None:
    """The first telling says when it was found."""
    events = history("gateway-g1", [STARTED, CRASHED, CRASHED])
    assert fold(Gateways(), {}, events)["g1"].ended_at == events[1].recorded_at


def test_whoever_says_that_it_ended_did_not_crash() -> None:
    """A process that was frozen, taken for dead, and then ended as it should; and the late finder after a clean end."""
    frozen, late = gateway(STARTED, CRASHED, STOPPED), gateway(STARTED, STOPPED, CRASHED)
    assert frozen is not None and not frozen.crashed
    assert late is not None and not late.crashed


def test_an_end_without_a_start_is_nobodys() -> None:
    assert gateway(STOPPED) is None and gateway(CRASHED) is None


def test_an_end_that_came_before_the_start_ends_nothing_when_it_is_told_again() -> None:
    """A reader that resumes meets events again."""
    events = history("gateway-g1", [STOPPED, STARTED])
    whole = fold(Gateways(), {}, events)
    assert fold(Gateways(), dict(whole), events[:1]) == whole and whole["g1"].ended_at is None
