"""Reads the repository's pages: tables, headings, the commands that they name."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any, Final

from tests.house import tree

_TARGET: Final = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_MAKE: Final = re.compile(r"(?:`|^(?: {4}|\$ ))(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)", re.MULTILINE)


def text(path: str) -> str:
    return (tree.ROOT / path).read_text(encoding="utf-8")


def exists(path: str) -> bool:
    return (tree.ROOT / path).exists()


def config() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads(text("pyproject.toml"))


def table(page: str, first_column: str) -> dict[str, list[str]]:
    """The table of a page whose first heading is ``first_column``: first cell without backticks -> the other cells."""
    rows: dict[str, list[str]] = {}
    inside = False
    for line in text(page).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells[0] == first_column:
            inside = True
        elif inside and not cells[0].startswith("--"):
            rows[cells[0].strip("`")] = cells[1:]
    return rows


def make_targets() -> set[str]:
    return set(_TARGET.findall(text("Makefile")))


def named_targets() -> Iterator[tuple[str, str]]:
    """Page and target of each ``make ...`` in backticks or in a block of commands."""
    for path in tree.files():
        if path.suffix == ".md":
            yield from ((tree.relative(path), name) for name in _MAKE.findall(path.read_text(encoding="utf-8")))


def pins(lock: str) -> set[str]:
    """``name==version`` and its marker, a line each."""
    lines = text(lock).splitlines()
    return {line.removesuffix("\\").strip() for line in lines if line[:1].isalnum()}
