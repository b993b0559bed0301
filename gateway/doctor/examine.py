"""Looks at rows side by side, a few at a time and each within its own time; answers them as they come."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Final

from docker.errors import DockerError
from docker.verdicts import verdict_of
from events.errors import EventError
from gateway.control import GatewayRefused, GatewayUnreachable
from gateway.doctor.row import Ended, Finding, Report, Row, State, failed, skipped
from gateway.doctor.surroundings import DaemonUnusable, NoDaemon, NoGateway, Surroundings
from gateway.settings import BadSettings

AT_ONCE: Final = 4


async def examine(rows: Iterable[Row], here: Surroundings) -> AsyncIterator[Report]:
    """A report for every row, in the order in which they end. Never raises by a row's doing."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(row: Row) -> Report:
        async with gate:
            return await look(row, here)

    wanted = list(rows)
    tasks = [asyncio.create_task(one(row)) for row in wanted if not row.alone]
    try:
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for row in wanted:
        if row.alone:
            yield await look(row, here)


async def look(row: Row, here: Surroundings) -> Report:
    """One row, within its time."""
    began = time.perf_counter()
    found = await _finding(row, here)
    return Report(
        row=row.name,
        state=found.state,
        sentence=found.sentence,
        todo=found.todo,
        facts=found.facts,
        milliseconds=round((time.perf_counter() - began) * 1000, 1),
    )


def worst(reports: Iterable[Report]) -> State:
    """FAIL before WARN before PASS; SKIP only when there was nothing to look at anywhere."""
    states = {report.state for report in reports}
    return next((state for state in (State.FAIL, State.WARN, State.PASS) if state in states), State.SKIP)


async def _finding(row: Row, here: Surroundings) -> Finding:
    try:
        async with asyncio.timeout(row.seconds) as limit:
            return await _told(row, here)
    except TimeoutError:
        assert limit.expired()
        return failed(
            f"It was not over after {row.seconds:g} s.", "Run it alone; look whether the machine is overloaded."
        )


async def _told(row: Row, here: Surroundings) -> Finding:
    """What a row raises, in the words of whose fault it is."""
    try:
        return await row.look(here)
    except Ended as ended:
        return ended.finding
    except BadSettings as error:
        return failed(f"The settings cannot be used: {error.problems[0]}.".replace("..", "."), "See the row settings.")
    except NoDaemon as error:
        return skipped(str(error), "Set DOCKER_HOST to look at a Docker daemon.")
    except DaemonUnusable as error:
        return failed(error.diagnosis.sentence, error.diagnosis.todo, verdict=error.diagnosis.verdict)
    except DockerError as error:
        return failed(str(error), verdict_of(error).todo, verdict=verdict_of(error).word)
    except (NoGateway, GatewayUnreachable) as error:
        return skipped(str(error), "Start a gateway (python -m gateway serve), or name one and its key.")
    except GatewayRefused as error:
        return failed(f"The gateway refused: {error}", "Give an operator's key (--key-file, GATEWAY_KEY).")
    except EventError as error:
        return failed(f"The log cannot be used: {error}.", "See 'Database' in docs/operator.md.")
    except Exception as error:
        return failed(f"The row itself failed: {type(error).__name__}: {error}", "Report it: this is our fault.")
