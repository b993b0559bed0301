"""The tokens' fold: each token of a session by its serial, by hash alone."""

from datetime import timedelta

from events.catalogue import Payload, SessionReady, TokenIssued, TokenRevealed, TokenRevoked
from projections.projection import fold
from projections.tokens import Tokens, TokenState
from tests.factories import MOMENT, history, payload

ISSUED, REVEALED, REVOKED = payload(TokenIssued), payload(TokenRevealed), payload(TokenRevoked)


def folded(*payloads: Payload) -> dict[str, TokenState]:
    return fold(Tokens(), {}, history("session-s1", payloads))


def test_each_token_of_a_session_has_its_own_state() -> None:
    states = folded(ISSUED, payload(TokenIssued, serial=2, sha256="bb"))
    assert [(key, state.serial, state.sha256) for key, state in states.items()] == [
        ("s1/1", 1, ISSUED.sha256),
        ("s1/2", 2, "bb"),
    ]
    assert states["s1/1"].expires_at == ISSUED.expires_at and states["s1/1"].issued_at == MOMENT + timedelta(seconds=1)


def test_it_is_counted_how_often_a_token_was_shown_again() -> None:
    state = folded(ISSUED, REVEALED, REVEALED)["s1/1"]
    assert (state.revealed, state.revealed_at, state.position) == (2, MOMENT + timedelta(seconds=3), 3)


def test_a_token_is_revoked_once() -> None:
    state = folded(ISSUED, REVOKED, payload(TokenRevoked, reason="failed"))["s1/1"]
    assert (state.revoked_at, state.reason, state.anomalies) == (MOMENT + timedelta(seconds=2), "stopped", 1)


def test_a_serial_is_issued_once() -> None:
    """A second hash under one serial is a contradiction in the log: the first stands, and it is counted."""
    state = folded(ISSUED, payload(TokenIssued, sha256="other"))["s1/1"]
    assert (state.sha256, state.anomalies) == (ISSUED.sha256, 1)


def test_what_is_told_before_the_issue_is_kept() -> None:
    state = folded(REVOKED, ISSUED)["s1/1"]
    assert state.revoked_at == MOMENT + timedelta(seconds=1) and state.issued_at == MOMENT + timedelta(seconds=2)


def test_other_events_are_nobodys() -> None:
    assert Tokens().key(payload(SessionReady)) is None
