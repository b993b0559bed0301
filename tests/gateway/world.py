"""A world that several gateways share within a test: one log, one container runtime, agents that answer.

A gateway can be killed at any step. There is no HTTP server: handler and runner are asked as the routes ask them.
"""

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

from docker import names
from docker.mock import MockDockerService
from docker.service import Address, Capability, DockerService
from events.catalogue import TokenIssued
from events.codec import decode
from events.envelope import ActorKind, RecordedEvent
from events.ids import short
from events.keyring import Keyring, MemoryKeyring
from events.lease import Leases, MemoryLeases
from events.memory import MemoryEventStore
from events.schema import Applied
from events.store import EventStore
from gateway.access.tokens import sha256
from gateway.lifespan import running
from gateway.recorder import Who, session_subject
from gateway.runtime import Runtime
from gateway.services import Services
from gateway.sessions import agent
from gateway.sessions.agent import Agent, Model
from gateway.sessions.commands import OpenSession, ResumeSession, StopSession
from gateway.sessions.handler import Handled, Origin
from gateway.settings import Settings, load
from gateway.storage import Report, Storage
from gateway.workers.reconcile import INSTANCE_LEASE, LEASE
from projections.lifecycle import Phase
from projections.session_state import SessionState
from projections.views import Views
from tests.event_fixtures import until
from tests.factories import CAUSE, MOMENT
from tests.gateway.faulty import spooled

SECONDS: Final = 10.0
ORIGIN: Final = Origin(who=Who(kind=ActorKind.KEY, id="chat", key_id="k1"), cause=CAUSE)
MODEL: Final = Model("http://127.0.0.1:9/v1", "", "m")
AGENT: Final = Agent(default_image="echo", allowed_images=frozenset(), environment=lambda model: {}, model=MODEL)
Through = Callable[[str, functools.partial[Awaitable[Any]]], Awaitable[Any]]


class Answering:
    """The agents behind all containers: one server that says whether it is healthy. ``slow``: it drips its answer."""

    def __init__(self) -> None:
        self.healthy = True
        self.slow = False
        self.address = Address("127.0.0.1", 0)
        self.asked = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Answering"]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        yield self
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            body = b'{"healthy":%s,"version":"1"}' % (b"true" if self.healthy else b"false")
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            while self.slow:
                writer.write(b" ")
                await asyncio.sleep(0.05)  # the drip itself, under every time-out between two bytes
            writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side left, or the test ended
        finally:
            self._tasks.discard(task)
            writer.close()


class Wired:
    """Stands before ``target``: every awaited call of it goes through ``through(name, call)``."""

    def __init__(self, target: object, through: Through) -> None:
        self._target, self._through = target, through

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._through(name, functools.partial(found, *arguments, **named))

        return call


class Killed(BaseException):
    """What every call of a killed process meets; no ``except Exception`` of the product sees it."""


EFFECTS: Final = frozenset(
    {"append", "create_container", "start_container", "stop_container", "remove_container", "get_container_info"}
)


class Fuse:
    """Ends a process at its ``at``-th effect once armed: before the effect, or after it and before it is known."""

    def __init__(self, at: int = 0, *, after: bool = False) -> None:
        self.armed, self.blown = False, asyncio.Event()
        self.steps: list[str] = []
        self._at, self._after = at, after

    async def __call__(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.blown.is_set():
            raise Killed
        if not self.armed or name not in EFFECTS:
            return await call()
        self.steps.append(name)
        hit = len(self.steps) == self._at
        if hit and not self._after:
            self._blow()
        answer = await call()
        if hit or self.blown.is_set():
            self._blow()
        return answer

    def _blow(self) -> None:
        self.blown.set()
        raise Killed


async def plainly(name: str, call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()


class Gateway:
    """One gateway of the world and what may be asked of it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.views: Views = services.views
        self.instance = services.instance

    def command(self, session_id: str | None = None) -> OpenSession:
        session_id = session_id or f"ses_{short()}"
        return OpenSession(
            session_id=session_id,
            container=names.container_name(),
            image="echo",
            runtime=self.services.docker.runtime,
            volumes=agent.volume_names(),
            opened_by="k1",
            owner=None,
            metadata=None,
            instance=self.instance,
            mint=self._mint(session_id),
        )

    def _mint(self, session_id: str) -> Callable[[int], TokenIssued]:
        return lambda serial: TokenIssued(
            session_id=session_id,
            serial=serial,
            sha256=sha256(self.services.tokens.token(session_id, serial)),
            secret_id=self.services.tokens.secret_id,
            expires_at=MOMENT + timedelta(days=3650),
        )

    async def begin(self, session_id: str | None = None) -> str:
        """Ask for a session; its id."""
        command = self.command(session_id)
        await self.services.keyring.key_for(session_subject(command.session_id))  # as the route does
        handled = await self.services.handler.handle(command, ORIGIN)
        self.services.runner.open(handled.state.session_id)
        return handled.state.session_id

    async def open(self) -> SessionState:
        """A session that is ready."""
        return await self.reaches(await self.begin(), Phase.READY)

    async def stop(self, session_id: str) -> Handled:
        handled = await self.services.handler.handle(StopSession(session_id=session_id), ORIGIN)
        if handled.changed:
            self.services.runner.stop(session_id)
        return handled

    async def resume(self, session_id: str) -> Handled:
        command = ResumeSession(
            session_id=session_id,
            container=names.container_name(),
            runtime=self.services.docker.runtime,
            instance=self.instance,
            mint=self._mint(session_id),
        )
        handled = await self.services.handler.handle(command, ORIGIN)
        self.services.runner.open(session_id)
        return handled

    async def reaches(self, session_id: str, *phases: Phase, seconds: float = SECONDS) -> SessionState:
        """The session, once it is in one of ``phases``."""

        def there() -> bool:
            state = self.views.sessions.get(session_id)
            return state is not None and state.phase in phases

        if not await self.views.wait_for(there, seconds):
            raise AssertionError(f"the session is {self.views.sessions.get(session_id)}")
        return self.views.sessions[session_id]

    async def idle(self, session_id: str) -> None:
        """Wait until nothing of the session is being carried out."""
        await eventually(lambda: not self.services.runner.busy(session_id))


class World:
    """What outlives every gateway of it."""

    def __init__(self, data_dir: Path, agents: Answering, *, store: EventStore | None = None) -> None:
        self.data_dir = data_dir
        self.agents = agents
        memory = store if isinstance(store, MemoryEventStore) else MemoryEventStore()
        self.store: EventStore = store or memory
        self.keyring: Keyring = MemoryKeyring()
        self.leases: Leases = MemoryLeases(memory)
        self.docker = MockDockerService(address_of=lambda name: agents.address)

    @contextlib.asynccontextmanager
    async def gateway(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        through: Through = plainly,
        docker: DockerService | None = None,
        spool: Path | None = None,
        keyring: Keyring | None = None,
    ) -> AsyncIterator[Gateway]:
        """A gateway; its calls of the log and of the runtime go through ``through``. ``spool``: where it spools.

        ``keyring``: of this process alone, over the world's.
        """

        @contextlib.asynccontextmanager
        async def log_of(settings: Settings, report: Report) -> AsyncIterator[Storage]:
            wired = cast(EventStore, Wired(self.store, through))
            leases = cast(Leases, Wired(self.leases, through))
            async with contextlib.nullcontext(wired) if spool is None else spooled(wired, spool) as store:
                yield Storage(
                    store=store,
                    keyring=keyring or self.keyring,
                    leases=leases,
                    label="memory",
                    schema=Applied((), False),
                )

        @contextlib.asynccontextmanager
        async def runtime_of(settings: Settings, storage: Storage, report: Report) -> AsyncIterator[Runtime]:
            wired = cast(DockerService, Wired(docker or self.docker, through))
            yield Runtime(docker=wired, agent=AGENT, summary="mock")

        base = {"SESSION_RUNTIME": "mock", "GATEWAY_DATA_DIR": str(self.data_dir), "SESSION_BOOT_CONCURRENCY": "8"}
        settings = load({**base, **(environment or {})})
        async with running(settings, lambda _: None, log_of=log_of, runtime_of=runtime_of) as process:
            yield Gateway(process.services)

    @contextlib.asynccontextmanager
    async def mortal(self, fuse: Fuse) -> AsyncIterator[Gateway]:
        """A gateway that ``fuse`` may end. Killed or not, it leaves as by kill -9: it says and does nothing more."""
        instance = ""
        try:
            async with self.gateway(through=fuse) as gateway:
                instance = gateway.instance
                yield gateway
                fuse.blown.set()
        except Killed:
            pass
        await self.silence(instance)

    async def silence(self, instance: str) -> None:
        """What time does to the leases of a process that is gone."""
        await self.leases.release(INSTANCE_LEASE + instance, instance)
        await self.leases.release(LEASE + self.docker.runtime, instance)

    async def log(self, *types: str) -> list[RecordedEvent]:
        return await self.store.read_log(limit=10_000, types=types)

    async def payloads(self, *types: str) -> list[Any]:
        return [decode(event) for event in await self.log(*types)]

    async def containers(self) -> list[str]:
        return [info.name for info in await self.docker.list_containers(all=True)]

    async def empty(self) -> bool:
        """Whether no container is left."""
        return await self.containers() == []

    def made(self) -> list[str]:
        """Every container that was ever asked for."""
        return [name for call, name in self.docker.calls if call == "create"]


@contextlib.asynccontextmanager
async def world(data_dir: Path, *, store: EventStore | None = None) -> AsyncIterator[World]:
    async with Answering().serving() as agents:
        yield World(data_dir, agents, store=store)


async def eventually(true: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait for what no event tells; TimeoutError after ``seconds``."""

    async def holds() -> object:
        return true()

    await until(holds, seconds)


class Mortal(MockDockerService):
    """A mock that cannot be adopted from, as local processes cannot."""

    capabilities = frozenset({Capability.EXIT_CODE})
