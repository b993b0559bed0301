"""Printing: one JSON document, or lines and aligned tables for people. What others wrote cannot move the cursor."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo

import msgspec

from gateway.cli.columns import NOTHING as NOTHING
from gateway.cli.columns import laid_out
from gateway.redaction import escape


def document(value: object) -> None:
    """One line of JSON. Bytes are JSON already, and printed as they came."""
    line(value.decode() if isinstance(value, bytes) else msgspec.json.encode(value).decode())


def line(text: str) -> None:
    """One line to the standard output, at once: the reader may be a pipe."""
    print(text, flush=True)


def note(text: str) -> None:
    """One line for the person at the terminal, out of the way of what is piped on."""
    print(text, file=sys.stderr, flush=True)


def shown(value: object) -> str:
    """A value of unknown origin on one line."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, bool | list | tuple | dict):
        return escape(msgspec.json.encode(value).decode())
    return escape(str(value))


def facts(found: Mapping[str, object]) -> str:
    """Names and values on one line: those that say something, the ids of containers as short as Docker prints them."""
    told = {name: str(value)[:12] if name == "container_id" else value for name, value in found.items()}
    return " ".join(f"{name}={shown(value)}" for name, value in told.items() if value not in (None, "", [], {}))


def paragraph(text: str) -> str:
    """Text of unknown origin on as many lines as it has."""
    return "\n".join(escape(part.expandtabs()) for part in text.split("\n"))


def when(moment: datetime | str | None, *, exact: bool = False, zone: tzinfo | None = None) -> str:
    """A time as the clock on the wall shows it, here or in ``zone``, with its offset; ``exact``: to the millisecond."""
    if moment is None:
        return NOTHING
    time = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return time.astimezone(zone).isoformat(" ", "milliseconds" if exact else "seconds")


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns, laid out for the terminal's width; a file or pipe gets every row on one line, however long."""
    screen = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if screen else None
    first, *others = laid_out(titles, [[shown(cell) for cell in row] for row in rows], width)
    line(f"\x1b[1m{first}\x1b[0m" if screen and os.environ.get("TERM") != "dumb" else first)
    for told in others:
        line(told)


def count(number: int, what: str) -> str:
    """``1 row``, ``2 rows``, ``1,200 rows``; ``what`` in the singular."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
