"""Reads ``docker/compose.yml``: the part of YAML that it is written in, strictly, and Compose's ``${NAME:-default}``.

A reader of YAML is no dependency of the product or of its tests. What this one does not know it refuses.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).resolve().parents[2] / "docker" / "compose.yml"
_VARIABLE: Final = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")
_KEY: Final = re.compile(r"(?P<key>[\w.-]+):(?: (?P<value>.*))?")


def read(environment: Mapping[str, str], file: Path = FILE) -> dict[str, Any]:
    """The file with its variables filled in. Raises ValueError: not our YAML, or a variable that must be set."""
    lines = []
    for line in file.read_text().splitlines():
        bare = line.split(" #")[0].rstrip()
        if bare and not bare.lstrip().startswith("#"):
            lines.append((len(bare) - len(bare.lstrip()), interpolate(bare.lstrip(), environment)))
    value, rest = _block(lines, 0)
    if rest or not isinstance(value, dict):
        raise ValueError(f"not understood: {rest[:1]}")
    return value


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """Raises ValueError for a variable that must be set and is not."""

    def value(match: re.Match[str]) -> str:
        if given := environment.get(match["name"]):
            return given
        if match["kind"] == "-":
            return match["text"]
        raise ValueError(f"{match['name']} must be set: {match['text']}")

    return _VARIABLE.sub(value, text)


def variables(file: Path = FILE) -> dict[str, str | None]:
    """Every variable in the file with its default; None: it must be set. Raises ValueError for two defaults."""
    found: dict[str, str | None] = {}
    for match in _VARIABLE.finditer(file.read_text()):
        default = match["text"] if match["kind"] == "-" else None
        if found.setdefault(match["name"], default) != default:
            raise ValueError(f"{match['name']} has two defaults")
    return found


Lines = list[tuple[int, str]]


def _block(lines: Lines, indent: int) -> tuple[Any, Lines]:
    if not lines or lines[0][0] < indent:
        raise ValueError(f"nothing at depth {indent}: {lines[:1]}")
    return _list(lines, lines[0][0]) if lines[0][1].startswith("- ") else _mapping(lines, lines[0][0])


def _mapping(lines: Lines, indent: int) -> tuple[dict[str, Any], Lines]:
    found: dict[str, Any] = {}
    while lines and lines[0][0] == indent and not lines[0][1].startswith("- "):
        match = _KEY.fullmatch(lines[0][1])
        if match is None or match["key"] in found:
            raise ValueError(f"no key, or the second of its name: {lines[0][1]}")
        if match["value"] is None:
            found[match["key"]], lines = _block(lines[1:], indent + 1)
        else:
            found[match["key"]], lines = scalar(match["value"]), lines[1:]
    if lines and lines[0][0] > indent:
        raise ValueError(f"too deep: {lines[0]}")
    return found, lines


def _list(lines: Lines, indent: int) -> tuple[list[Any], Lines]:
    found: list[Any] = []
    while lines and lines[0][0] == indent and lines[0][1].startswith("- "):
        item = lines[0][1][2:]
        if _KEY.fullmatch(item):
            value, lines = _mapping([(indent + 2, item), *lines[1:]], indent + 2)
        else:
            value, lines = scalar(item), lines[1:]
        found.append(value)
    return found, lines


def scalar(text: str) -> Any:
    """A value on one line: quoted or plain text, a number, true or false, ``[a, b]``, ``{a: b}``."""
    if text.startswith("[") and text.endswith("]"):
        return [scalar(part.strip()) for part in text[1:-1].split(",")]
    if text.startswith("{") and text.endswith("}"):
        pairs = [_KEY.fullmatch(part.strip()) for part in text[1:-1].split(",") if part.strip()]
        return {match["key"]: scalar(match["value"]) for match in pairs if match}
    if text[:1] == text[-1:] == '"':
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if text[:1] in "&*!|>'\"%@`[{" or ": " in text:
        raise ValueError(f"not in our part of YAML: {text}")
    return int(text) if text.isdecimal() else text
