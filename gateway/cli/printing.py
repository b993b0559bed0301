"""Printing: one JSON document, or lines and aligned tables for people. What others wrote cannot move the cursor."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo

import msgspec

from gateway.redaction import escape

NOTHING = "-"


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
    """Aligned columns; a file or pipe gets every row on one line, however long."""
    from rich.console import Console  # here: 0.1 s that --json need not wait for
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        drawn.add_column(title, overflow="fold", no_wrap=not sys.stdout.isatty())
    cells = [[shown(cell) for cell in row] for row in rows]
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    widest = max((sum(len(cell) * 2 + 2 for cell in row) for row in [list(titles), *cells]), default=80)
    console = Console(width=None if sys.stdout.isatty() else max(80, widest))
    with console.capture() as captured:  # printed by us: rich would end the process when the reader has left
        console.print(drawn)
    line(captured.get().rstrip("\n"))
