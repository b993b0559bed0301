"""Those who wait for their boot are told their place, also by a gateway that does not carry them out."""

from pathlib import Path
from typing import Any, Final

import pytest

from gateway.api import stream as streams
from gateway.cli import steps
from gateway.control import Control, GatewayClient
from projections.lifecycle import Phase
from tests.gateway.clients import Frame, stream
from tests.gateway.world import eventually
from tests.gateway_fixtures import Gateway, start_gateway

ONE: Final = {"SESSION_BOOT_CONCURRENCY": "1", "MAX_CONCURRENT_SESSIONS": "10"}


class Held:
    """Agents that are not ready before they are told to be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ready = False
        asked = Control.is_ready

        async def is_ready(control: Control, *arguments: Any) -> bool:
            return self.ready and await asked(control, *arguments)

        monkeypatch.setattr(Control, "is_ready", is_ready)


async def opened(gateway: Gateway, count: int) -> list[str]:
    """Sessions of which the first boots."""
    found = [str((await gateway.client.post("/sessions")).json()["session_id"])]
    await eventually(lambda: gateway.services.views.sessions[found[0]].container_id is not None)
    return found + [str((await gateway.client.post("/sessions")).json()["session_id"]) for _ in range(count - 1)]


async def waiting(gateway: Gateway, session_id: str) -> int | None:
    place: int | None = (await gateway.client.get(f"/sessions/{session_id}")).json()["waiting_place"]
    return place


async def test_a_place_is_told_as_it_changes_and_never_has_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_gateway(tmp_path, ONE) as gateway:
        agents = Held(monkeypatch)
        first, second, third = await opened(gateway, 3)
        assert [await waiting(gateway, each) for each in (first, second, third)] == [None, 1, 2]
        told: list[Frame] = []
        async with stream(gateway, f"/sessions/{third}/progress") as frames:
            async for frame in frames:
                if frame.event == streams.WAITING:
                    told.append(frame)
                    agents.ready = True
                if frame.event == "session.ready":
                    break
        assert told[0].json == {"session_id": third, "place": 2, "ahead": 1, "booting": 1}
        places = [each.json["place"] for each in told]
        assert places == sorted(places, reverse=True)
        assert places[-1] == 1
        assert await gateway.log("session.waiting") == []
        assert await waiting(gateway, third) is None


async def test_the_stream_of_all_sessions_tells_each_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_gateway(tmp_path, ONE) as gateway:
        agents = Held(monkeypatch)
        _, second, third = await opened(gateway, 3)
        told: list[Frame] = []
        async with stream(gateway, "/sessions/stream") as frames:
            async for frame in frames:
                if frame.data is not None:
                    told.append(frame)
                if len(told) == 2:
                    break
        assert [(each.event, each.json["session_id"], each.json["place"]) for each in told] == [
            (streams.WAITING, second, 1),
            (streams.WAITING, third, 2),
        ]
        agents.ready = True


async def test_the_command_line_says_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start_gateway(tmp_path, ONE) as gateway:
        agents = Held(monkeypatch)
        *_, last = await opened(gateway, 4)
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            agents.ready = agents.ready or "in line" in line

        key = gateway.client.headers["authorization"].removeprefix("Bearer ")
        async with GatewayClient(gateway.url, key) as client:
            session = await steps.settle(client, last, 60, say)
        assert session["phase"] == Phase.READY
        assert "third in line, 1 other session booting" in said
