"""What every backend shares of the contract: names of types, expectations as numbers."""

import pytest

from events.envelope import ANY, NEW
from events.errors import BadEvent
from events.store import check_unit, expected_number, type_matches
from tests.factories import raw, write


def test_expectations_are_numbers_for_the_database() -> None:
    assert [expected_number(one) for one in (NEW, ANY, 0, 7)] == [0, None, 0, 7]


@pytest.mark.parametrize("tag", ["", "session", "session.Ready", "a.b ", "a.b.c", "a.\0", "x" * 60 + ".y"])
def test_names_of_types_are_a_family_and_a_word(tag: str) -> None:
    with pytest.raises(BadEvent):
        check_unit([write("session-a", raw(type=tag))])


@pytest.mark.parametrize(
    ("tag", "types", "matches"),
    [
        ("session.ready", [], True),
        ("session.ready", ["session.ready"], True),
        ("session.ready", ["session.*"], True),
        ("session.ready", ["token.*", "session.ready"], True),
        ("session.ready", ["session"], False),
        ("session.ready", ["sess.*"], False),
        ("session.ready", ["session.read"], False),
        ("api_key.created", ["api_key.*"], True),
    ],
)
def test_types_match_by_tag_or_family(tag: str, types: list[str], matches: bool) -> None:
    assert type_matches(tag, types) is matches
