"""Bars: what a figure must reach, written as a person reads it: ``>= 250,000``, ``< 5``."""

import operator
import re
from collections.abc import Mapping
from typing import Final

_HOLDS: Final = {">=": operator.ge, "<=": operator.le, "<": operator.lt, ">": operator.gt}
_BAR: Final = re.compile(r"(>=|<=|<|>) ([0-9][0-9,]*(?:\.[0-9]+)?)")


def missed(figures: Mapping[str, float], bars: Mapping[str, str]) -> list[str]:
    """A sentence for each figure that does not reach its bar. Raises ValueError for a bar that is none, KeyError for
    one without a figure: a benchmark must not pass since a name was changed."""
    return [
        f"{name} is {figures[name]:,}, and must be {bar}"
        for name, bar in bars.items()
        if not _holds(figures[name], bar)
    ]


def _holds(figure: float, bar: str) -> bool:
    found = _BAR.fullmatch(bar)
    if found is None:
        raise ValueError(f"{bar!r} is no bar")
    return bool(_HOLDS[found[1]](figure, float(found[2].replace(",", ""))))
