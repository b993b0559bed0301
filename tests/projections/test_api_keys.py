"""The keys: made once, revoked for good."""

from events.catalogue import ApiKeyCreated, ApiKeyRevoked, Payload
from projections.api_keys import ApiKey, ApiKeys
from projections.projection import fold
from tests.factories import history, payload


def keys(*payloads: Payload) -> dict[str, ApiKey]:
    return fold(ApiKeys(), {}, history("keys", payloads))


CREATED, REVOKED = payload(ApiKeyCreated), payload(ApiKeyRevoked)


def test_a_key_is_known_by_its_hash_and_role() -> None:
    known = keys(CREATED)["k1"]
    assert (known.name, known.role, known.sha256) == (CREATED.name, CREATED.role, CREATED.sha256)
    assert (known.expires_at, known.revoked_at) == (CREATED.expires_at, None)


def test_a_revoked_key_says_since_when() -> None:
    """The first time counts, in the log's time."""
    events = history("keys", [CREATED, REVOKED, REVOKED])
    assert fold(ApiKeys(), {}, events)["k1"].revoked_at == events[1].recorded_at


def test_a_revoked_key_cannot_be_made_again() -> None:
    """A second creation with its id changes nothing, so no event can give it another hash or role."""
    again = payload(ApiKeyCreated, sha256="ff", role="operator")
    known = keys(CREATED, REVOKED, again)["k1"]
    assert (known.sha256, known.role) == (CREATED.sha256, CREATED.role) and known.revoked_at is not None


def test_what_is_revoked_before_it_is_known_makes_no_key() -> None:
    assert keys(REVOKED) == {}
