"""The erased: whose keys were destroyed, by key ids that name nobody."""

from events.catalogue import GatewayStarted, SubjectErased
from projections.erasures import KEY, Erasures
from projections.projection import fold
from tests.factories import history, payload


def test_erasures_gather_the_keys_of_all_who_were_erased() -> None:
    both = [payload(SubjectErased, key_ids=("a", "b")), payload(SubjectErased, key_ids=("b", "c"))]
    first, second = events = history("system", both)
    assert fold(Erasures(), {}, events)[KEY].key_ids == {
        "a": first.event_id,
        "b": first.event_id,
        "c": second.event_id,
    }


def test_nothing_else_erases_anybody() -> None:
    assert Erasures().key(payload(GatewayStarted)) is None
    assert fold(Erasures(), {}, history("gateway-g1", [GatewayStarted])) == {}
