"""Places in the line for a boot, and the order of boots."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway import lifespan
from gateway.sessions.waiting import Boots, places
from projections.lifecycle import Phase
from projections.session_state import SessionState
from tests.gateway.world import Gateway, World, eventually, world

ONE = {"SESSION_BOOT_CONCURRENCY": "1"}


def session(name: str, intent: int, **more: object) -> SessionState:
    state = SessionState(session_id=name, phase=Phase.CREATING, instance="one", intent_position=intent)
    return msgspec.structs.replace(state, **more)


def table(*states: SessionState, most: int = 1) -> dict[str, tuple[int, int, int]]:
    return {name: (each.place, each.ahead, each.booting) for name, each in places(states, most).items()}


def test_the_line_is_in_the_order_of_the_intents() -> None:
    assert table(session("c", 30), session("a", 10), session("b", 20)) == {"b": (1, 0, 1), "c": (2, 1, 1)}


def test_who_boots_is_counted_apart() -> None:
    found = table(session("x", 5, container_id="1"), session("b", 20), session("a", 10))
    assert found == {"a": (1, 0, 1), "b": (2, 1, 1)}


@pytest.mark.parametrize(
    ("most", "expected"), [(1, {"a": (1, 0, 1), "b": (2, 1, 1)}), (2, {"b": (1, 0, 2)}), (3, {}), (9, {})]
)
def test_who_boots_without_a_container_yet_is_not_first_in_line(
    most: int, expected: dict[str, tuple[int, int, int]]
) -> None:
    """Another boots already, and there is room for more at once."""
    assert table(session("x", 5, container_id="1"), session("b", 20), session("a", 10), most=most) == expected


def test_who_has_nobody_before_him_does_not_wait() -> None:
    assert table(session("a", 10)) == {}


def test_each_gateway_has_a_line_of_its_own() -> None:
    assert table(session("a", 10), session("b", 20, instance="two"), session("c", 30)) == {"c": (1, 0, 1)}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.CREATING])
def test_only_what_is_being_made_stands_in_the_line(phase: Phase) -> None:
    assert table(session("a", 10, phase=phase), session("b", 20)) == {}


async def test_of_all_who_come_at_once_the_oldest_intent_boots_first() -> None:
    boots, order = Boots(1), list[int]()

    async def boot(position: int) -> None:
        async with boots.turn(position):
            order.append(position)
            await asyncio.sleep(0)

    await asyncio.gather(*map(boot, (30, 10, 40, 20)))
    assert order == [10, 20, 30, 40]


async def test_as_many_boot_as_are_allowed_and_who_leaves_keeps_nobody_waiting() -> None:
    boots = Boots(2)
    turns = [boots.turn(position) for position in (1, 2, 3, 4)]
    await asyncio.sleep(0)
    assert [turn.came.is_set() for turn in turns] == [True, True, False, False]
    turns[2].over()
    turns[0].over()
    turns[0].over()
    assert [turn.came.is_set() for turn in turns] == [True, True, False, True]


async def booting_one_at_a_time(gateway: Gateway, count: int) -> list[str]:
    """Sessions of which the first boots, and goes on doing so, and the others wait."""
    first = await gateway.begin()
    await eventually(lambda: gateway.views.sessions[first].container_id is not None)
    return [first, *[await gateway.begin() for _ in range(count - 1)]]


def line(gateway: Gateway) -> list[tuple[str, int, int]]:
    return [(each.session_id, each.place, each.booting) for each in gateway.services.runner.lines.places.values()]


async def started(earth: World) -> list[str]:
    """Whose containers were made, in order."""
    return [each.session_id for each in await earth.payloads("container.created")]


async def test_every_process_sees_the_line_and_counts_it_once_a_change(tmp_path: Path) -> None:
    """Two gateways over one log: the one that carries the sessions out, and one that only reads."""
    async with world(tmp_path) as earth, earth.gateway(ONE) as carrier, earth.gateway(ONE) as reader:
        earth.agents.healthy = False
        first, second, third = await booting_one_at_a_time(carrier, 3)
        expected = [(second, 1, 1), (third, 2, 1)]
        await eventually(lambda: line(carrier) == line(reader) == expected)
        lines = reader.services.runner.lines
        counted = lines.counted
        for _ in range(100):
            assert lines.places
        assert lines.counted == counted
        await carrier.stop(second)
        await eventually(lambda: line(carrier) == line(reader) == [(third, 1, 1)])
        earth.agents.healthy = True
        await carrier.reaches(first, Phase.READY)
        await carrier.reaches(third, Phase.READY)
        await eventually(lambda: line(reader) == [])


async def test_a_resumed_session_stands_behind_those_who_asked_before(tmp_path: Path) -> None:
    async with world(tmp_path) as earth, earth.gateway(ONE) as gateway:
        old = (await gateway.open()).session_id
        await gateway.stop(old)
        await gateway.reaches(old, Phase.STOPPED)
        await gateway.idle(old)
        earth.agents.healthy = False
        first, second = await booting_one_at_a_time(gateway, 2)
        await gateway.resume(old)
        assert line(gateway) == [(second, 1, 1), (old, 2, 1)]
        earth.agents.healthy = True
        await gateway.reaches(old, Phase.READY)
        assert await started(earth) == [old, first, second, old]


async def test_the_sessions_of_a_dead_gateway_boot_in_the_order_of_their_intents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifespan, "RECONCILE_SECONDS", 0.2)
    async with world(tmp_path) as earth:
        earth.agents.healthy = False
        async with earth.gateway(ONE) as dead:
            asked = await booting_one_at_a_time(dead, 3)
        await earth.silence(dead.instance)
        earth.agents.healthy = True
        async with earth.gateway(ONE) as heir:
            for session_id in asked:
                await heir.reaches(session_id, Phase.READY)
        ready = [each.session_id for each in await earth.payloads("session.ready")]
        assert ready == asked
