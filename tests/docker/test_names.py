"""Names are random and labels tell whose a thing is."""

import pytest

from docker import names


def test_container_names_are_random_and_recognised() -> None:
    """A session's id in a name would be a rule that a restart or a pool breaks."""
    made = {names.container_name() for _ in range(100)}
    assert len(made) == 100
    assert all(names.is_container_name(name) for name in made)
    assert not names.is_container_name("gw-hello")


def test_a_volume_name_tells_its_purpose() -> None:
    assert names.volume_name("home").endswith("-home")
    with pytest.raises(ValueError, match="lower-case word"):
        names.volume_name("../home")


def test_what_is_labelled_is_found_by_its_owner() -> None:
    made = names.labels("log-1", "s-1", "gw-1")
    assert made == {
        "session-gateway.owner": "log-1",
        "session-gateway.session": "s-1",
        "session-gateway.name": "gw-1",
    }
    assert names.owned_by("log-1").items() <= made.items()
