"""Rounds: every cell once a round in a new order, so that a ratio inside a round compares like with like."""

import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.load import Measured

Cell = Callable[[], Awaitable[Measured]]
screen = Console(stderr=True)


class Foreign:
    """How much of the machine others took: processor seconds that neither this process nor its children used."""

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid
        self._began = self._others(), time.perf_counter()

    def share(self) -> float:
        """Of all processors, since this object was made."""
        others, now = self._others(), time.perf_counter()
        capacity = (now - self._began[1]) * (psutil.cpu_count() or 1)
        return max(0.0, (others - self._began[0]) / capacity)

    def _others(self) -> float:
        times = psutil.cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        return float(busy) - self._ours()

    def _ours(self) -> float:
        total = sum(psutil.Process().cpu_times()[:4])
        server = psutil.Process(self._server_pid)
        for process in (server, *server.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return float(total + sum(server.cpu_times()[2:4]))


class Rounds(msgspec.Struct, frozen=True):
    """The results of every cell, one a round."""

    cells: dict[str, list[Measured]]

    def rate(self, cell: str) -> float:
        return statistics.median(each.rate for each in self.cells[cell])

    def ratio(self, cell: str, *others: str) -> float:
        """The cell's rate over the best of the others, round by round; the median."""
        best = [max(self.cells[other][number].rate for other in others) for number in range(len(self.cells[cell]))]
        return statistics.median(each.rate / peer for each, peer in zip(self.cells[cell], best, strict=True))

    def latency(self, cell: str, share: float) -> float:
        """Seconds; the median of the rounds."""
        return statistics.median(each.quantile(share) for each in self.cells[cell])


async def interleave(cells: Mapping[str, Cell], rounds: int, *, title: str) -> Rounds:
    """Run every cell ``rounds`` times. The first round warms up and does not count."""
    results: dict[str, list[Measured]] = {name: [] for name in cells}
    order, seeded = list(cells), random.Random(1)
    with progress() as bar:
        task = bar.add_task(title, total=len(order) * (rounds + 1))
        for number in range(rounds + 1):
            seeded.shuffle(order)
            for name in order:
                measured = await cells[name]()
                if number:
                    results[name].append(measured)
                bar.advance(task)
    return Rounds(results)


def progress() -> Progress:
    """A bar on standard error, so that standard output stays the result."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=screen)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """An aligned table on standard output."""
    shown = Table(*head, title=title, title_justify="left", box=None)
    for column in shown.columns:
        column.justify, column.no_wrap = "right", True
    shown.columns[0].justify = "left"
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(shown)
