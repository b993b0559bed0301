"""Tables of any width: readable at 80 columns, whole at 200, and nothing broken inside a name or a time."""

import re

import pytest

from gateway.cli.columns import laid_out, wide

TIME = "2026-12-01 09:31:35+00:00"
TITLES = ["table", "version", "position", "lag", "rows", "updated", "proved", "rebuild"]
STATUS = [
    ["sessions", "1", "1200", "0", "12", TIME, f"right at 1200, {TIME}", "-"],
    ["health_history", "1", "1200", "0", "0", TIME, f"4 rows differ at 1100, {TIME}", "at 900, by gw-910c3360"],
]


def test_at_200_columns_a_row_is_a_line() -> None:
    lines = laid_out(TITLES, STATUS, 200)
    assert len(lines) == 3
    assert lines == laid_out(TITLES, STATUS, None)
    assert lines[0].index("proved") == lines[1].index("right") == lines[2].index("4 rows differ")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_nothing_is_broken_inside_and_nothing_is_lost(width: int) -> None:
    lines = laid_out(TITLES, STATUS, width)
    assert max(map(wide, lines)) <= width
    text = "\n".join(lines)
    assert text.count(TIME) == 4
    assert all(word in text for word in ("health_history", "gw-910c3360", "1100"))


def test_at_80_columns_what_fits_stays_a_table_and_the_rest_is_named_below() -> None:
    assert laid_out(TITLES, STATUS, 80) == [
        "table           version  position  lag  rows  updated",
        f"sessions        1        1200      0    12    {TIME}",
        f"    proved: right at 1200, {TIME}",
        f"health_history  1        1200      0    0     {TIME}",
        f"    proved: 4 rows differ at 1100, {TIME}",
        "    rebuild: at 900, by gw-910c3360",
    ]


def test_running_text_at_the_end_goes_on_below_itself() -> None:
    lines = laid_out(["name", "meaning"], [["DRAIN_SECONDS", "seconds that requests under way get to finish"]], 44)
    assert lines == [
        "name           meaning",
        "DRAIN_SECONDS  seconds that requests under",
        "               way get to finish",
    ]


def test_a_word_longer_than_the_terminal_is_left_whole() -> None:
    """To be copied: the terminal wraps it, and no blank gets into it."""
    token = "x" * 100
    assert any(token in line for line in laid_out(["key", "value"], [["a", token]], 80))


def test_wide_letters_take_two_columns() -> None:
    lines = laid_out(["owner", "since"], [["\u5c71\u7530", "1"], ["ada", "2"], ["e\u0301va", "3"]], None)
    assert [wide(re.sub(r"\S+$", "", line)) for line in lines] == [7] * 4
