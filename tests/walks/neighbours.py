"""Sessions that are asked all the time: what their answers took, and which were none, by what went on meanwhile."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import httpx

from tests.event_fixtures import until

BOUND: Final = 2.0  # seconds for an answer, p99: a machine of two cores that does other things as well
RELATIVE: Final = 1.0  # seconds that it may take longer than while nothing goes on
LEAST: Final = 5  # answers of each neighbour in each stage
PAUSE: Final = 0.03  # ask some thirty times a second
NOTHING: Final = "nothing"
Who = tuple[str, Mapping[str, str]]  # path and headers


class Neighbours:
    """Asks each of them in turn, and books every request on the stage in which it was sent."""

    def __init__(self, client: httpx.AsyncClient, who: Sequence[Who]) -> None:
        self._client, self._who = client, who
        self.took: dict[str, dict[str, list[float]]] = {}  # by stage, by path
        self.refused: list[str] = []
        self._during = ""
        self._open: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator["Neighbours"]:
        tasks = [asyncio.create_task(self._ask(*each)) for each in self._who]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def during(self, what: str) -> AsyncIterator[None]:
        """A stage: at its end what is under way is waited for, and each has answered often enough."""
        self._during, self.took[what] = what, {path: [] for path, _ in self._who}
        yield
        await until(lambda: self._is_enough(what))
        self._during = ""
        if self._open:
            await asyncio.wait(self._open)

    async def _is_enough(self, stage: str) -> bool:
        return bool(self.refused) or min(map(len, self.took[stage].values())) >= LEAST

    async def _ask(self, path: str, headers: Mapping[str, str]) -> None:
        while True:
            request = asyncio.create_task(self._one(path, headers, self._during))
            self._open.add(request)
            request.add_done_callback(self._open.discard)
            await request
            await asyncio.sleep(PAUSE)

    async def _one(self, path: str, headers: Mapping[str, str], stage: str) -> None:
        began = time.monotonic()
        try:
            answer = await self._client.get(path, headers=headers)
        except httpx.HTTPError as error:
            self.refused.append(f"{stage}: {path}: {error!r}")
            return
        if answer.status_code != 200:
            self.refused.append(f"{stage}: {path}: {answer.status_code}")
        if stage:
            self.took[stage][path].append(time.monotonic() - began)

    def harm(self) -> list[str]:
        """What a neighbour suffered, a line each; empty: nothing. The first stage is ``NOTHING``."""
        usual = max(map(p99, self.took[NOTHING].values()))
        bound = min(BOUND, usual + RELATIVE)
        return self.refused + [
            f"{stage}: {path}: p99 {p99(took):.2f} s, more than {bound:.2f} s"
            for stage, by_path in self.took.items()
            for path, took in by_path.items()
            if p99(took) > bound
        ]

    def report(self) -> str:
        lines = [f"{'neighbours during':24} {'answers':>8} {'median ms':>10} {'p99 ms':>8}"]
        for what, by_path in self.took.items():
            took = [each for times in by_path.values() for each in times]
            lines.append(f"{what:24} {len(took):8} {statistics.median(took) * 1e3:10.1f} {p99(took) * 1e3:8.1f}")
        return "\n".join(lines)


def p99(took: Sequence[float]) -> float:
    """Of fewer than a hundred, the longest."""
    return sorted(took)[int(len(took) * 0.99)] if took else 0.0
