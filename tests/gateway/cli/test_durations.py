"""How durations read."""

import pytest

from gateway.cli.durations import roughly, told

SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [
        (0, "0 ms"),
        (1, "1 us"),
        (999, "999 us"),
        (1_499, "1 ms"),
        (999_499, "999 ms"),
        (999_500, "1.00 s"),
        (12_345_678, "12.35 s"),
        (59_994_999, "59.99 s"),
        (59_995_000, "1 min"),
        (MINUTE + 6_600_000, "1 min 7 s"),
        (HOUR - 1, "1 h"),
        (HOUR + 59 * MINUTE + 59 * SECOND, "1 h 59 min"),
        (24 * HOUR, "1 d"),
        (400 * 24 * HOUR + 5 * HOUR, "400 d 5 h"),
        (-1_500_000, "-1.50 s"),
    ],
)
def test_two_figures_say_enough(microseconds: int, expected: str) -> None:
    assert told(microseconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_what_is_left_is_known_to_a_second(seconds: float, expected: str) -> None:
    assert roughly(seconds) == expected
