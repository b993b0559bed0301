"""Tags and types find each other."""

from typing import get_args

import pytest

from events import registry
from events.catalogue import Payload, SessionReady
from events.errors import BadEvent
from events.registry import EVENT_TYPES, event_type, tag_of
from tests.factories import SAMPLES


def test_every_type_of_the_catalogue_is_registered_under_its_tag() -> None:
    assert {known.payload for known in EVENT_TYPES.values()} == set(get_args(Payload))
    assert all(tag == known.tag == tag_of(SAMPLES[known.payload]) for tag, known in EVENT_TYPES.items())


def test_unknown_tag_is_refused_by_name() -> None:
    assert event_type("session.ready").payload is SessionReady
    with pytest.raises(BadEvent, match=r"session\.teleported"):
        event_type("session.teleported")


def test_a_misspelt_type_is_found_with_the_near_one() -> None:
    assert registry.unknown(["session.ready", "sesion.*", "log.*", "session.redy"]) == ("sesion.*", "session.redy")
    assert (registry.near("sesion.*"), registry.near("session.redy")) == ("session.*", "session.ready")
    assert registry.near("qqq.www") is None
