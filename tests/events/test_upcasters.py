"""Old shapes are read in the newest: session.requested and token.issued pretend to be at their third version."""

from typing import Any

import msgspec
import pytest

from events import codec
from events.catalogue import SessionRequested, TokenIssued
from events.envelope import RecordedEvent
from events.registry import EVENT_TYPES
from events.upcasters import UPCASTERS
from tests.factories import event, payload, recorded


@pytest.fixture(autouse=True)
def later_release(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("session.requested", "token.issued"):
        monkeypatch.setitem(EVENT_TYPES, kind, msgspec.structs.replace(EVENT_TYPES[kind], schema_version=3))
    monkeypatch.setitem(UPCASTERS, ("session.requested", 1), lambda old: {**old, "volumes": [old["volume"]]})
    monkeypatch.setitem(UPCASTERS, ("session.requested", 2), lambda old: {**old, "image": old["image"].lower()})
    monkeypatch.setitem(UPCASTERS, ("token.issued", 2), lambda old: old)


def test_old_shape_is_walked_up_to_the_newest() -> None:
    newest = payload(SessionRequested, volumes=("v",), image="a")
    old = msgspec.json.decode(event(newest).payload) | {"volume": "v", "image": "A"}
    del old["volumes"]
    assert codec.decode(_stored("session.requested", 1, old)) == newest
    assert codec.decode(_stored("session.requested", 2, old | {"volumes": ["v"]})) == newest


def test_times_in_old_shapes_are_times() -> None:
    newest = payload(TokenIssued)
    old = msgspec.json.decode(event(newest).payload)
    assert codec.decode(_stored("token.issued", 2, old)) == newest


def test_new_events_carry_the_newest_version() -> None:
    assert event(SessionRequested).schema_version == 3


def test_missing_step_is_unreadable_not_wrong() -> None:
    old = msgspec.json.decode(event(TokenIssued).payload)
    assert isinstance(codec.decode(_stored("token.issued", 1, old)), codec.Unreadable)


def test_old_shape_that_lacks_a_field_is_unreadable() -> None:
    read = codec.decode(_stored("session.requested", 1, {"type": "session.requested"}))
    assert isinstance(read, codec.Unreadable)


def _stored(tag: str, version: int, body: dict[str, Any]) -> RecordedEvent:
    data = msgspec.structs.replace(event(), type=tag, schema_version=version, payload=codec.canonical(body))
    return recorded(data)
