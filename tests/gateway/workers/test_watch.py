"""The runtime's word: a hint that starts a round, from our containers alone, and from a flood of kills once."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import msgspec
import pytest

from docker import names
from docker.errors import DaemonDown
from docker.service import ContainerEvent, DockerService
from gateway.workers import watch as module
from gateway.workers.watch import watch

OURS = ContainerEvent(container_id="i", name="c1", kind="die", at_ns=1, labels=names.labels("log", "s1", "c1"))


class Told:
    """A runtime that tells what it is given, one connection after the other, and then closes."""

    def __init__(self, *connections: list[ContainerEvent] | DaemonDown) -> None:
        self._connections = list(connections)

    def events(self, past: bool = False) -> AsyncIterator[ContainerEvent]:
        assert past, "what happened while no gateway looked is asked for too"
        return self._events(self._connections.pop(0))

    async def _events(self, told: list[ContainerEvent] | DaemonDown) -> AsyncIterator[ContainerEvent]:
        if isinstance(told, DaemonDown):
            raise told
        for event in told:
            yield event


async def followed(runtime: Told, news: bool = True) -> list[str]:
    """What was called, in order."""
    calls = list[str]()

    def exhausted(event: ContainerEvent) -> bool:
        calls.append(f"exhausted {event.name}")
        return news

    watching = watch(cast(DockerService, runtime), "log", exhausted=exhausted, changed=lambda: calls.append("changed"))
    await asyncio.wait_for(watching, 5)
    return calls


async def test_a_death_starts_a_round() -> None:
    assert await followed(Told([OURS])) == ["changed"]


async def test_containers_of_others_start_none() -> None:
    """Two gateways may share a daemon, and a flood of one is not the other's work."""
    foreign = msgspec.structs.replace(OURS, labels={})
    theirs = msgspec.structs.replace(OURS, kind="oom", labels=names.labels("another-log", "s1", "c1"))
    assert await followed(Told([foreign, theirs])) == []


@pytest.mark.parametrize(("news", "calls"), [(True, ["exhausted c1", "changed"]), (False, ["exhausted c1"])])
async def test_a_kill_starts_a_round_when_it_is_news(news: bool, calls: list[str]) -> None:
    assert await followed(Told([msgspec.structs.replace(OURS, kind="oom")]), news) == calls


async def test_the_watch_outlives_a_daemon_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """And starts a round when it is back, since something may have been missed."""
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    assert await followed(Told(DaemonDown("The daemon is down."), [OURS])) == ["changed", "changed"]
