"""Purposes: one line in the reader's words."""

import pytest

from gateway import purpose


@pytest.mark.parametrize("text", ["complaint 4711", "Beschwerde über Größe", "x" * purpose.MAX_CHARACTERS])
def test_one_line_in_any_language_is_a_purpose(text: str) -> None:
    assert purpose.stated(text) == purpose.stated(f"  {text} ") == text


@pytest.mark.parametrize("text", [None, "", " ", "\t \n", "\u00a0"])
def test_blanks_are_none(text: str | None) -> None:
    """Else whoever must say why has said it with a key stroke."""
    assert purpose.stated(text) is None


@pytest.mark.parametrize("text", ["two\nlines", "tab\there", "bell\a", "x" * (purpose.MAX_CHARACTERS + 1), "a\u2028b"])
def test_what_is_none_says_why(text: str) -> None:
    """It stands in lines of text later, and in an event of limited size."""
    with pytest.raises(purpose.BadPurpose, match=r"allowed|one line"):
        purpose.stated(text)
