"""Why did this happen: a session is opened, used, loses its container, is stopped; every event leads to a request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from docker.mock import MockDockerService
from events.envelope import RecordedEvent
from events.filter import session_of
from gateway.access.roles import Role
from gateway.cli.exits import Exit
from gateway.lifespan import OPERATOR_KEY_FILE
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.storage import Report, Storage
from projections.lifecycle import Phase
from tests.event_fixtures import until
from tests.gateway.cli.conftest import Ran, run
from tests.gateway.clients import nobody
from tests.gateway.world import AGENT, Answering, eventually
from tests.gateway_fixtures import Gateway, Session, start_gateway

pytestmark = pytest.mark.timeout(60)
PURPOSE: Final = "complaint 4711"
ASKED: Final = "the-request-in-question"
# What nobody asked for and nothing led to: a process was started by somebody, and a test made a key.
BEGINNINGS: Final = {"gateway.started", "api_key.created"}


class Told:
    """What happened, and who may be asked about it."""

    def __init__(self, gateway: Gateway, data_dir: Path, session: Session, log: list[RecordedEvent]) -> None:
        self.gateway, self.session, self.log = gateway, session, log
        self.own = [event for event in log if session_of(event) == session.session_id]
        self.known = {event.event_id: event for event in log}
        self._key = data_dir / OPERATOR_KEY_FILE

    async def why(self, what: object) -> dict[str, Any]:
        answer = await self.gateway.client.get(f"/why?of={what}", headers={"x-audit-purpose": PURPOSE})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def page(self, *arguments: str) -> Ran:
        where = ("--url", self.gateway.url, "--key-file", str(self._key), "--purpose", PURPOSE)
        return await asyncio.to_thread(run, *arguments, *where)

    def of(self, type_: str) -> RecordedEvent:
        (event,) = [event for event in self.own if event.type == type_]
        return event

    def chain(self, event: RecordedEvent) -> list[str]:
        """From an event to its root, by what the log alone says."""
        types = [event.type]
        while event.causation_id is not None:
            event = self.known[event.causation_id]
            types.append(event.type)
        return types


@contextlib.asynccontextmanager
async def mocked(settings: Settings, storage: Storage, report: Report) -> AsyncIterator[Runtime]:
    async with Answering().serving() as agents:
        yield Runtime(docker=MockDockerService(address_of=lambda name: agents.address), agent=AGENT, summary="mock")


@pytest_asyncio.fixture
async def told(tmp_path: Path) -> AsyncIterator[Told]:
    async with start_gateway(tmp_path, {"SESSION_RUNTIME": "mock"}, runtime_of=mocked) as gateway:
        docker, views = gateway.runtime.docker, gateway.services.views
        assert isinstance(docker, MockDockerService)
        frontend = await gateway.key(Role.FRONTEND, "chat")
        session = await gateway.open({"owner": "ada"}, headers=frontend)
        async with nobody(gateway) as client:
            used = await client.get(session.path("x"), headers=session.headers | {"x-request-id": ASKED})
            assert used.status_code == 200
        assert await gateway.services.exchanges.flush(5)
        docker.die(views.sessions[session.session_id].container, 137)
        assert await views.wait_for(lambda: views.sessions[session.session_id].phase is Phase.FAILED, 10)
        await eventually(lambda: views.sessions[session.session_id].container_id is None)
        stopped = await gateway.client.delete(f"/sessions/{session.session_id}", headers={"prefer": "wait=30"})
        assert stopped.status_code == 200

        async def quiet() -> bool:
            return not gateway.services.runner.busy(session.session_id)

        await until(quiet)
        yield Told(gateway, tmp_path, session, await gateway.log())


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    waiting = list(tree["roots"])
    while waiting:
        yield (node := waiting.pop())
        waiting += node["children"]


def types(found: list[dict[str, Any]]) -> list[str]:
    return [node["event"]["type"] for node in found]


async def test_every_event_names_its_cause_or_is_a_beginning(told: Told) -> None:
    """By the log alone: causes, the request, and the trace that a backend shows."""
    ways = {event.type: told.chain(event)[1:] for event in told.own}
    opening, stop = ["session.requested"], ["session.stop_requested"]
    assert ways["session.requested"] == ways["session.stop_requested"] == []
    for of_opening in ("token.issued", "admission.granted", "container.created", "container.started", "session.ready"):
        assert ways[of_opening] == opening
    assert ways["exchange.completed"] == ["token.issued", *opening]
    died = ["container.died", "session.ready", *opening]
    assert ways["container.died"] == died[1:]
    assert ways["session.failed"] == died
    assert ways["admission.released"] == ways["token.revoked"] == ["session.failed", *died]
    assert ways["session.stopped"] == stop
    for event in told.log:
        assert event.type in BEGINNINGS or event.correlation_id is not None, event.type
        assert event.type in BEGINNINGS or (event.trace_id and event.span_id), event.type


async def test_the_last_event_leads_back_to_the_opening(told: Told) -> None:
    last = told.own[-1]
    tree = await told.why(last.event_id)
    assert types(tree["roots"]) == ["session.requested", "session.stop_requested"]
    assert [node["link"] for node in tree["roots"]] == ["root", "root"]
    (asked,) = [node for node in nodes(tree) if node["asked"]]
    assert asked["event"]["position"] == last.position
    assert asked["event"]["type"] in told.chain(last)
    failed = await told.why(told.of("session.failed").event_id)
    (root,) = failed["roots"]
    assert root["event"]["type"] == "session.requested"
    assert root["event"]["actor"]["id"] == "chat" and root["event"]["payload"]["owner"] == "ada"
    assert [node["reason"] for node in nodes(failed) if node["asked"]] == ["container_died"]


async def test_every_event_of_the_session_is_in_its_tree_once(told: Told) -> None:
    tree = await told.why(told.session.session_id)
    assert sorted(node["event"]["position"] for node in nodes(tree)) == [event.position for event in told.own]
    assert types(tree["roots"]) == ["session.requested", "session.stop_requested"]
    assert tree["events"] == len(told.own)


async def test_one_command_says_it_on_one_page(told: Told) -> None:
    """What, by whom, how long, and in which trace; for the request that somebody asks about, and the whole session."""
    exchange = told.of("exchange.completed")
    assert exchange.trace_id is not None
    ran = await told.page("why", ASKED)
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert "by key:chat for ada" in ran.out and f"trace {exchange.trace_id.hex()}" in ran.out
    whole = await told.page("why", told.session.session_id)
    assert whole.code == Exit.OK and len(whole.out.splitlines()) < 50
    for word in ("container.died", "exit_code=137", "reason=container_died", "session.stopped", "lasted"):
        assert word in whole.out
    line = await told.page("sessions", "timeline", told.session.session_id)
    assert line.code == Exit.OK
    words = line.out.split()
    steps = [event.type for event in told.own if not event.type.startswith("exchange.")]
    assert [word for word in words if word in steps] == steps and "exchange" in words


async def test_readings_of_it_are_found_by_who_asks_next(told: Told) -> None:
    """Each has its purpose, and is a root of its own: nothing of the session led to it."""
    await told.why(told.session.session_id)
    tree = await told.why(told.session.session_id)
    assert types(tree["roots"]) == ["session.requested", "session.stop_requested", "log.read"]
    assert tree["roots"][-1]["event"]["payload"]["purpose"] == PURPOSE
