"""Rules for every payload type, read from their annotations: what is written once can never be changed."""

import re
from collections.abc import Iterator
from datetime import datetime
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from events import catalogue
from events.catalogue import (
    AdmissionEvent,
    ContainerEvent,
    ExchangeEvent,
    HealthEvent,
    KeyEvent,
    Payload,
    SessionEvent,
    SystemEvent,
)
from events.envelope import Sealed
from events.registry import EVENT_TYPES, EventType, tag_of
from events.sealing import sealed_fields
from tests.factories import SAMPLES

by_tag = pytest.mark.parametrize("known", EVENT_TYPES.values(), ids=lambda known: known.tag)
ALLOWED = {str, int, bool, type(None), datetime, Sealed}


def parts(annotation: Any) -> Iterator[Any]:
    """The plain types that an annotation is made of."""
    if get_origin(annotation) in (UnionType, Union, tuple):
        for inner in get_args(annotation):
            if inner is not Ellipsis:
                yield from parts(inner)
    else:
        yield annotation


@by_tag
def test_fields_are_text_whole_numbers_times_or_sealed(known: EventType) -> None:
    """Floats have no one spelling; maps and nested structs could hide a personal field."""
    for name, annotation in get_type_hints(known.payload).items():
        assert set(parts(annotation)) <= ALLOWED, f"{known.tag}.{name}: {annotation}"


@by_tag
def test_sealed_fields_stand_at_the_top(known: EventType) -> None:
    """Sealing binds a field to its name, and erasure finds it by one look: neither looks into lists."""
    for name, annotation in get_type_hints(known.payload).items():
        if get_origin(annotation) is tuple:
            assert Sealed not in set(parts(annotation)), f"{known.tag}.{name}"
    annotated = {name for name, hint in get_type_hints(known.payload).items() if Sealed in set(parts(hint))}
    assert set(sealed_fields(SAMPLES[known.payload])) == annotated


@by_tag
def test_types_are_frozen_and_take_names(known: EventType) -> None:
    """A positional field could not be added or moved without breaking whoever builds the event."""
    config = known.payload.__struct_config__
    assert config.frozen and config.tag_field == "type" and not config.forbid_unknown_fields
    with pytest.raises(TypeError):
        known.payload(*msgspec.structs.astuple(SAMPLES[known.payload]))


@by_tag
def test_tags_are_a_family_and_a_past_participle(known: EventType) -> None:
    irregular = {"read", "rebuilt"}
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", known.tag)
    assert known.tag.endswith(("ed", "lost", "died", "ready", *irregular)), known.tag
    assert tag_of(SAMPLES[known.payload]) == known.tag


def test_every_type_is_in_one_union_and_exported() -> None:
    unions = (SessionEvent, ContainerEvent, ExchangeEvent, HealthEvent, AdmissionEvent, KeyEvent, SystemEvent)
    members = [kind for union in unions for kind in get_args(union)]
    assert len(members) == len(set(members)) == len(EVENT_TYPES)
    assert set(members) == set(get_args(Payload))
    assert {kind.__name__ for kind in members} <= set(catalogue.__all__)
