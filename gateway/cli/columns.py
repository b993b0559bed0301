"""Columns: a table as lines of text, for any width. No name and no time is ever cut or broken inside."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

NOTHING: Final = "-"
_GAP: Final = "  "
_INDENT: Final = "    "
_LEAST: Final = 24  # columns in which running text can still be read
# What is not broken: a time with its date and offset, else a word.
_PIECE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*|\S+")


def laid_out(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines, the titles' first. Without ``width`` every row is one line, however long.

    In ``width`` columns: the last column's text goes on below itself where enough is left for it; else the columns that
    fit stay a table, and under each row stands what they leave, each value named.
    """
    table = [list(titles), *map(list, rows)]
    widths = [max(wide(row[column]) for row in table) for column in range(len(titles))]
    if width is None or _total(widths) <= width:
        return [_line(row, widths) for row in table]
    left = width - _total([*widths[:-1], 0])
    if left >= max(_LEAST, max(wide(piece) for row in table for piece in _pieces(row[-1]))):
        return [line for row in table for line in _with_text(row, widths[:-1], left)]
    fitting = next((count for count in range(len(widths) - 1, 1, -1) if _total(widths[:count]) <= width), 1)
    lines = [_line(table[0][:fitting], widths)]
    for row in table[1:]:
        lines.append(_line(row[:fitting], widths))
        told = [f"{title}: {cell}" for title, cell in zip(titles[fitting:], row[fitting:], strict=True) if _says(cell)]
        lines += _packed(told, width)
    return lines


def wide(text: str) -> int:
    """The columns that a terminal gives to it."""
    return len(text) if text.isascii() else sum(map(_wide, text))


def _wide(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - wide(cell)) for cell, width in zip(cells, widths, strict=False))
    return _GAP.join(padded).rstrip()


def _with_text(row: Sequence[str], widths: Sequence[int], left: int) -> Iterator[str]:
    first, *more = list(_filled(_pieces(row[-1]), left, " ")) or [""]
    yield _line([*row[:-1], first], [*widths, left])
    for text in more:
        yield _line([*[""] * len(widths), text], [*widths, left])


def _packed(told: Sequence[str], width: int) -> list[str]:
    """Named values, as many on a line as fit; one that does not fit on any goes on below itself."""
    lines = list[str]()
    room = width - len(_INDENT)
    for line in _filled(told, room, _GAP):
        parts = [line] if wide(line) <= room else list(_filled(_pieces(line), room - len(_GAP), " "))
        lines += [_INDENT + parts[0], *(_INDENT + _GAP + part for part in parts[1:])]
    return lines


def _filled(pieces: Sequence[str], width: int, gap: str) -> Iterator[str]:
    """Pieces joined to lines of at most ``width``, but for a piece that is longer by itself."""
    line = ""
    for piece in pieces:
        longer = f"{line}{gap}{piece}" if line else piece
        if line and wide(longer) > width:
            yield line
            longer = piece
        line = longer
    if line:
        yield line


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(text) or [""]


def _says(cell: str) -> bool:
    return bool(cell.strip()) and cell != NOTHING
