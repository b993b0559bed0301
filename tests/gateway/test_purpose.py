"""Purposes: one line in the reader's words."""

import pytest

from gateway import purpose


@pytest.mark.parametrize("text", ["", "complaint 4711", "Beschwerde über Größe", "x" * purpose.MAX_CHARACTERS])
def test_one_line_in_any_language_is_a_purpose(text: str) -> None:
    assert purpose.fault(text) is None


@pytest.mark.parametrize("text", ["two\nlines", "tab\there", "bell\a", "x" * (purpose.MAX_CHARACTERS + 1), "\u2028"])
def test_what_is_none_says_why(text: str) -> None:
    """It stands in lines of text later, and in an event of limited size."""
    assert purpose.fault(text)
