"""The fold itself: the only loop over events that there is."""

from typing import Final

from events.catalogue import ApiKeyCreated, ApiKeyRevoked, Payload, SubjectErased
from events.envelope import RecordedEvent
from events.registry import tags
from projections.projection import apply, fold
from tests.factories import history, payload


class Counted:
    """Counts a key's events; a revoked key is forgotten."""

    name: Final = "counted"
    version: Final = 1
    types: Final = tags(ApiKeyCreated, ApiKeyRevoked)

    def key(self, payload: Payload) -> str | None:
        return payload.key_id if isinstance(payload, ApiKeyCreated | ApiKeyRevoked) else None

    def evolve(self, state: int | None, event: RecordedEvent, payload: Payload) -> int | None:
        return None if isinstance(payload, ApiKeyRevoked) else (state or 0) + 1


def test_each_event_goes_to_the_state_it_concerns() -> None:
    one, two = payload(ApiKeyCreated, key_id="k1"), payload(ApiKeyCreated, key_id="k2")
    assert fold(Counted(), {}, history("keys", [one, two, one])) == {"k1": 2, "k2": 1}


def test_a_state_that_is_none_is_gone() -> None:
    gone = [ApiKeyCreated, ApiKeyRevoked]
    assert fold(Counted(), {}, history("keys", gone)) == {}
    assert fold(Counted(), {}, history("keys", [ApiKeyRevoked])) == {}
    assert fold(Counted(), {}, history("keys", [*gone, ApiKeyCreated])) == {"k1": 1}


def test_what_concerns_nobody_changes_nothing() -> None:
    states = {"k1": 5}
    (event,) = history("system", [SubjectErased])
    apply(Counted(), states, event, payload(SubjectErased))
    assert states == {"k1": 5}


def test_folding_goes_on_in_the_states_it_is_given() -> None:
    states = {"k1": 5}
    assert fold(Counted(), states, history("keys", [ApiKeyCreated])) is states
    assert states == {"k1": 6}
