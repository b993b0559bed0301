"""Prints how long functions and modules are and how much is comment: ``python -m tests.house.figures``.

Goals: function bodies median <= 8 and p95 <= 30 lines, modules median 60 to 160 and p90 <= 300, comments and docstrings
12 to 30 % of the lines. Only the hard limits fail, in ``tests/test_house.py``.
"""

import math
import statistics
from collections.abc import Sequence

import msgspec

from tests.house import tree


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One room."""

    room: str
    modules: list[int]  # lines
    functions: list[int]  # body lines
    comment_lines: int
    many_positional: int  # functions with more than 4 positional parameters


def measure(room: str, modules: Sequence[tree.Module]) -> Figures:
    functions = [function for module in modules for function in module.functions()]
    return Figures(
        room=room,
        modules=[module.lines for module in modules if module.lines > 1],
        functions=[tree.body_lines(function) for function in functions],
        comment_lines=sum(_comment_lines(module) for module in modules),
        many_positional=sum(len(_positional(function)) > 4 for function in functions),
    )


def row(figures: Figures) -> str:
    lines = sum(figures.modules)
    share = 100 * figures.comment_lines / lines if lines else 0
    return (
        f"{figures.room:12} {len(figures.modules):7} {lines:7} {_median(figures.modules):7} "
        f"{quantile(figures.modules, 90):5} {max(figures.modules, default=0):5} {len(figures.functions):9} "
        f"{_median(figures.functions):7} {quantile(figures.functions, 95):5} {max(figures.functions, default=0):5} "
        f"{share:9.0f} {figures.many_positional:14}"
    )


def quantile(values: Sequence[int], percent: int) -> int:
    """The smallest value that ``percent`` of all values do not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0


def main() -> None:
    print(
        f"{'room':12} {'modules':>7} {'lines':>7} {'median':>7} {'p90':>5} {'max':>5} {'functions':>9} "
        f"{'median':>7} {'p95':>5} {'max':>5} {'comment %':>9} {'> 4 positional':>14}"
    )
    for room in (*tree.ROOMS, "tests", "tools"):
        print(row(measure(room, [module for module in tree.modules() if module.room == room])))
    print(row(measure("product", tree.product())))


def _comment_lines(module: tree.Module) -> int:
    """Lines that hold a comment or belong to a docstring."""
    documented = [module.tree, *module.functions(), *module.classes()]
    return sum(tree.docstring_lines(node) for node in documented) + len({line for line, _ in module.comments()})


def _positional(function: tree.Function) -> list[str]:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _median(values: Sequence[int]) -> int:
    return round(statistics.median(values)) if values else 0


if __name__ == "__main__":
    main()
