"""Bar: how far a long command is, on the standard error output: a bar at a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from gateway.cli import durations, printing
from projections.rebuild import Progress, Watch

LINE_SECONDS: Final = 5.0  # between two lines
_SAID: Final = {
    "begun": "from the first event",
    "resumed": "going on from position {position:,}",
    "waiting": "complete; waiting for whoever reads the former table",
}


class Rate:
    """Events a second since the first look, and the seconds that are left at that rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None

    def look(self, progress: Progress) -> tuple[float, float | None]:
        """0 and None while nothing can be said yet."""
        now = self._clock()
        if self._first is None:
            self._first = now, progress.position
        began, position = self._first
        if now <= began or progress.position <= position:
            return 0.0, None
        rate = (progress.position - position) / (now - began)
        return rate, max(0, progress.goal - progress.position) / rate


@contextmanager
def bar(doing: str, *, silent: bool = False) -> Iterator[Watch]:
    """What to tell the progress of one table to. ``silent``: for programs, nothing is shown."""
    if silent:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _Drawn(doing) as drawn:
            yield drawn.look
    else:
        yield Lines(doing).look


class Lines:
    """One line for each turn of events, and every few seconds in between."""

    def __init__(
        self,
        doing: str,
        say: Callable[[str], None] = printing.note,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._doing, self._say, self._clock = doing, say, clock
        self._rate = Rate(clock)
        self._said = float("-inf")

    def look(self, progress: Progress) -> None:
        """Say it, if it is a turn of events or long ago that something was said."""
        rate, left = self._rate.look(progress)
        now = self._clock()
        turn = _SAID.get(progress.step)
        if turn is not None:
            self._say(f"{self._doing} {progress.name}: {turn.format(position=progress.position)}")
        elif progress.step == "folded" and now - self._said >= LINE_SECONDS:
            told = f"{progress.position:,} of {progress.goal:,} events"
            ahead = "" if left is None else f", {rate:,.0f}/s, {durations.roughly(left)} left"
            self._say(f"{self._doing} {progress.name}: {told}{ahead}")
        else:
            return
        self._said = now


class _Drawn:
    """A bar of rich, on the standard error output."""

    def __init__(self, doing: str) -> None:
        from rich.console import Console  # here: 0.1 s that --json need not wait for
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}")]
        self._shown = RichProgress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._task = self._shown.add_task(doing, total=None, told="")
        self._doing = doing
        self._rate = Rate()

    def __enter__(self) -> "_Drawn":
        self._shown.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._shown.stop()

    def look(self, progress: Progress) -> None:
        rate, left = self._rate.look(progress)
        told = f"{progress.position:,}/{progress.goal:,}"
        if left is not None:
            told += f"  {rate:,.0f} events/s  {durations.roughly(left)} left"
        if progress.step == "waiting":
            told = _SAID["waiting"]
        self._shown.update(
            self._task,
            description=f"{self._doing} {progress.name}",
            completed=progress.position,
            total=max(1, progress.goal),
            told=told,
            refresh=True,  # a page of events at a time: often enough, and no thread
        )
