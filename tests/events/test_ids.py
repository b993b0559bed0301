"""Identifiers: the layout of RFC 9562, and names that two observers share."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from events.ids import named, short, uuid7


@given(st.integers(0, 2**48 - 1))
def test_uuid7_has_the_layout_of_rfc_9562(milliseconds: int) -> None:
    made = uuid7(lambda: milliseconds)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == milliseconds


def test_uuid7_is_random_in_all_other_bits() -> None:
    """Every bit but time, version and variant is seen as 0 and as 1."""
    made = [uuid7(lambda: 0).int for _ in range(200)]
    free = (1 << 128) - 1 & ~(0xFFFF_FFFF_FFFF << 80) & ~(0xF << 76) & ~(0x3 << 62)
    ones = zeros = 0
    for value in made:
        ones |= value
        zeros |= ~value
    assert ones & free == zeros & free == free


def test_later_uuid7_and_short_sort_later() -> None:
    """New keys fill an index from the right."""
    early, late = uuid7(lambda: 1_000), uuid7(lambda: 1_001)
    assert early < late
    assert short(early.bytes) < short(late.bytes)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_name_is_the_same_for_the_same_parts_only(parts: list[str]) -> None:
    assert named(*parts) == named(*parts)
    assert named(*parts).version == 5
    assert named(*parts) != named(*parts, "")
    assert named("a", "bc") != named("ab", "c")


def test_name_of_a_fact_never_changes() -> None:
    """Another answer would turn every repeat of an old fact into a new event."""
    assert named("container.died", "0f1e2d", "2026-01-18T22:29:04Z") == uuid.UUID(
        "ed6df0f2-f105-51e6-be6c-fac09e081597"
    )


@given(st.binary(min_size=16, max_size=16))
def test_short_is_26_characters_that_hold_16_bytes(value: bytes) -> None:
    text = short(value)
    assert len(text) == 26
    assert set(text) <= set("0123456789abcdefghjkmnpqrstvwxyz")
    number = 0
    for character in text:
        number = number << 5 | "0123456789abcdefghjkmnpqrstvwxyz".index(character)
    assert number.to_bytes(17, "big")[1:] == value
