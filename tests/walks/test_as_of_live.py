"""What is told of the past is what the live view held then: at every position of a scripted history, by every way.

While the history runs through the real handlers on Postgres, each event's states are kept as the view had them. After
it, the function, HTTP and ``replay`` are asked for each of these positions, and for the time of each.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from docker.mock import MockDockerService
from events.catalogue import Payload
from events.envelope import RecordedEvent
from gateway.access.roles import Role
from gateway.api import shapes
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.storage import Report, Storage, open_storage
from projections import asof
from projections.lifecycle import Phase
from projections.session_state import Sessions, SessionState
from tests.gateway.cli.conftest import database_variables, plain_environment, run
from tests.gateway.world import AGENT, Answering
from tests.gateway_fixtures import WAIT, Gateway, Session, start_gateway

__all__ = ["database_variables", "plain_environment"]
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]
WHY: Final = {"X-Audit-Purpose": "proof"}
REPLAYED: Final = 13  # every so-manieth position by the command line too, which takes a third of a second


class Live:
    """The states of all sessions after each event, as the view had them, and when the log recorded it."""

    def __init__(self, gateway: Gateway) -> None:
        self._views = gateway.services.views
        self.at: dict[int, dict[str, SessionState]] = {}
        self.recorded: dict[int, str] = {}
        gateway.services.views.on_event(self._keep)

    def _keep(self, event: RecordedEvent, payload: Payload) -> None:
        self.at[event.position] = dict(self._views.sessions)
        self.recorded[event.position] = event.recorded_at.isoformat()

    def last_by(self, recorded_at: str) -> int:
        """The last position whose event was recorded by then: several have the same time when they are one batch."""
        return max(position for position, at in self.recorded.items() if at <= recorded_at)


@contextlib.asynccontextmanager
async def mock_gateway(place: Path, variables: dict[str, str]) -> AsyncIterator[tuple[Gateway, MockDockerService]]:
    async with Answering().serving() as agents:
        docker = MockDockerService(address_of=lambda name: agents.address)

        @contextlib.asynccontextmanager
        async def runtime_of(settings: Settings, storage: Storage, report: Report) -> AsyncIterator[Runtime]:
            yield Runtime(docker=docker, agent=AGENT, summary="mock")

        more = {"SESSION_RUNTIME": "mock", "MAX_CONCURRENT_SESSIONS": "2"}
        async with start_gateway(place, {**variables, **more}, log_of=open_storage, runtime_of=runtime_of) as gateway:
            yield gateway, docker


async def resume(gateway: Gateway, session: Session) -> Session:
    answer = await gateway.client.post(f"/sessions/{session.session_id}/resume", headers=WAIT)
    return Session(session.session_id, answer.json()["token"])


async def history(gateway: Gateway, docker: MockDockerService) -> list[str]:
    """Sessions of every fate, side by side; the ids of them."""
    get, views = gateway.client.get, gateway.services.views
    frontend = await gateway.key(Role.FRONTEND, "chat")
    first = await gateway.open({"owner": "Ada", "metadata": {"a": [1]}}, headers=frontend)
    second = await gateway.open()
    refused = await gateway.client.post("/sessions")
    assert refused.status_code == 429
    for session in (first, second, first):
        await get(session.path("x"), headers=session.headers)
    await get(first.path("x"), headers=second.headers)  # a denial
    await gateway.client.post(f"/sessions/{first.session_id}/token", headers=frontend)
    await gateway.log()
    docker.die(views.sessions[second.session_id].container, 137)
    assert await views.wait_for(lambda: views.sessions[second.session_id].phase is Phase.FAILED, 20)
    first_again, _ = await asyncio.gather(_stop_and_resume(gateway, first), resume(gateway, second))
    third = (await gateway.client.post("/sessions")).json()
    assert third["title"] == "All seats are taken"
    await get(first_again.path("x"), headers=first_again.headers)
    await gateway.stop(second)
    booting = (await gateway.client.post("/sessions", json={"owner": "Grace"})).json()["session_id"]
    await gateway.client.delete(f"/sessions/{booting}", headers=WAIT)
    docker.images = set()  # what is opened now fails
    failed = (await gateway.client.post("/sessions", headers=WAIT)).json()
    assert failed["status"] == "error"
    await gateway.log()
    return [first.session_id, second.session_id, booting, failed["session_id"]]


async def _stop_and_resume(gateway: Gateway, session: Session) -> Session:
    await gateway.stop(session)
    return await resume(gateway, session)


async def test_the_past_is_what_the_live_view_held(tmp_path: Path, database_variables: dict[str, str]) -> None:
    async with mock_gateway(tmp_path, database_variables) as (gateway, docker):
        live = Live(gateway)
        first = gateway.services.views.position + 1
        ids = await history(gateway, docker)
        end = gateway.services.views.position
        positions = [position for position in sorted(live.at) if position <= end]
        assert len(positions) > 40 and positions == list(range(first, end + 1))
        phases = {state.phase for at in live.at.values() for state in at.values()}
        assert phases == set(Phase) - {Phase.ABSENT}
        for position in positions:
            await _by_function(gateway, live.at[position], ids, position)
            await _by_http(gateway, live, ids, position)
        for position in positions[::REPLAYED]:
            await _by_replay(gateway, live, ids, position)


async def _by_function(gateway: Gateway, then: dict[str, SessionState], ids: list[str], position: int) -> None:
    store = gateway.services.store
    assert await asof.as_of(store, Sessions(), position) == then
    for session_id in ids:
        assert await asof.session_as_of(store, session_id, position) == then.get(session_id)


async def _shown(gateway: Gateway, live: Live, position: int) -> list[Any]:
    """What the list would have shown at ``position``."""
    states = shapes.in_order(live.at[position].values())
    views = await shapes.sessions(states, gateway.services.keyring)
    decoded: list[Any] = msgspec.json.decode(msgspec.json.encode(views))
    return decoded


async def _by_http(gateway: Gateway, live: Live, ids: list[str], position: int) -> None:
    """By position each time; by time every other, since each look is an event that waits for the disk."""
    moments = {str(position): position}
    if position % 2:
        moments[live.recorded[position]] = live.last_by(live.recorded[position])
    for moment, means in moments.items():
        then = await _shown(gateway, live, means)
        answer = await gateway.client.get("/sessions", params={"as_of": moment})
        assert answer.json() == {"sessions": then, "position": means, "next": None}
        known = {each["session_id"]: each for each in then}
        for session_id in ids if moment == str(position) else ids[:1]:
            one = await gateway.client.get(f"/sessions/{session_id}", params={"as_of": moment}, headers=WHY)
            if session_id in known:
                assert (one.json(), one.headers["as-of-position"]) == (known[session_id], str(means))
            else:
                assert (one.status_code, f"at position {means}." in one.json()["detail"]) == (404, True)


async def _by_replay(gateway: Gateway, live: Live, ids: list[str], position: int) -> None:
    for moment, means in ((str(position), position), (live.recorded[position], live.last_by(live.recorded[position]))):
        then = await _shown(gateway, live, means)
        ran = await asyncio.to_thread(run, "replay", "--json", "--as-of", moment)
        assert ran.document == {"sessions": then, "position": means, "next": None}
        for each in then[:1]:
            words = ("--session", each["session_id"], "--purpose", "proof")
            one = await asyncio.to_thread(run, "replay", "--json", "--as-of", moment, *words)
            assert one.document == each
