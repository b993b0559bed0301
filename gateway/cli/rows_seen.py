"""Rows seen: which of the doctor's rows are done, on the standard error output, while the others are looked at."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.doctor.row import Report


@contextmanager
def rows_seen(total: int, *, silent: bool = False) -> Iterator[Callable[[Report], Any]]:
    """What to tell each report to. A terminal gets a bar that is gone at the end; files and pipes get nothing."""
    if silent or not sys.stderr.isatty():
        yield lambda report: None
        return
    # Loaded here: 0.1 s that nobody pays who does not see it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        task = progress.add_task("looking", total=total)

        def seen(report: Report) -> None:
            progress.update(task, advance=1, description=f"{report.row}: {report.state.value}")

        yield seen
