"""Durations for people: the two figures that matter, and no more."""

import itertools
from typing import Final

_UNITS: Final = (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000))


def roughly(seconds: float) -> str:
    """The same of what nobody knows better than to a second: ``4 s``, ``3 min 7 s``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else told(whole * 1_000_000)


def told(microseconds: int) -> str:
    """``1.23 s``, ``45 ms``, ``3 min 7 s``, ``2 d 4 h``; with a minus when it is below zero."""
    if microseconds < 0:
        return f"-{told(-microseconds)}"
    if microseconds < 1_000:
        return f"{microseconds} us" if microseconds else "0 ms"
    if microseconds < 999_500:
        return f"{round(microseconds / 1_000)} ms"
    if microseconds < 59_995_000:
        return f"{microseconds / 1_000_000:.2f} s"
    seconds = round(microseconds, -6)
    for (unit, size), (below, part) in itertools.pairwise(_UNITS):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit} {rest} {below}" if rest else f"{seconds // size} {unit}"
    return f"{seconds // 1_000_000} s"
