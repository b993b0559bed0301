"""A whole gateway in the test's process: a log in memory, echo agents as local processes, real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest_asyncio

from docker import local_places
from events.codec import decode
from events.envelope import KEYS, ActorKind, RecordedEvent
from events.keyring import MemoryKeyring
from events.lease import MemoryLeases
from events.memory import MemoryEventStore
from events.schema import Applied
from gateway.access.keys import new_key
from gateway.access.roles import Role
from gateway.app import application
from gateway.lifespan import OPERATOR_KEY_FILE, running
from gateway.recorder import Who
from gateway.runtime import Runtime, open_runtime
from gateway.server import serving
from gateway.services import Services
from gateway.settings import Settings, load
from gateway.storage import Report, Storage

BASE: Final = {"SESSION_RUNTIME": "local", "SESSION_IMAGE": "echo", "ALLOW_UNISOLATED": "true", "LOG_LEVEL": "INFO"}
WAIT: Final = {"prefer": "wait=30"}
WHY: Final = {"x-audit-purpose": "a test"}
RuntimeOf = Callable[[Settings, Storage, Report], AbstractAsyncContextManager[Runtime]]


class Session(msgspec.Struct, frozen=True):
    """An opened session, as its frontend knows it."""

    session_id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def path(self, rest: str) -> str:
        return f"/s/{self.session_id}/{rest}"


async def placed(fact: Awaitable[int | None]) -> int:
    """The position of a fact that is in the log, not in the spool."""
    position = await fact
    assert position is not None
    return position


class Gateway:
    """A running gateway and a client with its operator's key."""

    def __init__(self, services: Services, runtime: Runtime, url: str, client: httpx.AsyncClient) -> None:
        self.services = services
        self.runtime = runtime
        self.url = url
        self.client = client

    async def open(self, body: Mapping[str, Any] | None = None, *, headers: Mapping[str, str] | None = None) -> Session:
        """A session that is ready."""
        answer = await self.client.post("/sessions", json=body or {}, headers={**WAIT, **(headers or {})})
        assert answer.status_code == 201, answer.text
        return Session(answer.json()["session_id"], answer.json()["token"])

    async def stop(self, session: Session) -> None:
        answer = await self.client.delete(f"/sessions/{session.session_id}", headers=WAIT)
        assert answer.status_code == 200, answer.text

    async def key(self, role: Role, name: str = "test") -> dict[str, str]:
        """Headers of a fresh key."""
        fresh = new_key(name, role)
        who = Who(kind=ActorKind.OPERATOR, id="test")
        await self.services.views.catch_up(await placed(self.services.recorder.fact(KEYS, fresh.created, who=who)))
        return {"authorization": f"Bearer {fresh.key}"}

    async def log(self, *types: str) -> list[RecordedEvent]:
        """The log, after every exchange so far is in it."""
        assert await self.services.exchanges.flush(5)
        return await self.services.store.read_log(limit=10_000, types=types)

    async def payloads(self, *types: str) -> list[Any]:
        return [decode(event) for event in await self.log(*types)]


@contextlib.asynccontextmanager
async def memory_log(settings: Settings, report: Report) -> AsyncIterator[Storage]:
    """A log that ends with the test."""
    store = MemoryEventStore()
    yield Storage(
        store=store,
        keyring=MemoryKeyring(),
        leases=MemoryLeases(store),
        label="memory",
        schema=Applied((), False),
    )
    await store.close()


@contextlib.asynccontextmanager
async def _forgetting(data_dir: Path) -> AsyncIterator[None]:
    """As root, local sessions live outside of the test's directory: they go with it."""
    try:
        yield
    finally:
        await asyncio.to_thread(local_places.forget, data_dir / "local")


@contextlib.asynccontextmanager
async def start_gateway(
    data_dir: Path,
    environment: Mapping[str, str] | None = None,
    *,
    log_of: Callable[[Settings, Report], AbstractAsyncContextManager[Storage]] = memory_log,
    runtime_of: RuntimeOf = open_runtime,
    keep: bool = False,
) -> AsyncIterator[Gateway]:
    """A gateway on a free port of the loopback interface. ``keep``: another one is started on its data directory."""
    settings = load({**BASE, "GATEWAY_DATA_DIR": str(data_dir), **(environment or {})})
    async with (
        contextlib.nullcontext() if keep else _forgetting(data_dir),
        running(settings, lambda _: None, log_of=log_of, runtime_of=runtime_of) as process,
    ):
        made = application(process.services)
        bind = msgspec.structs.replace(settings.server, gateway_bind="127.0.0.1:0", drain_seconds=1.0)
        async with serving(made.asgi, bind, drain=made.drain) as server:
            url = server.address.url
            key = (data_dir / OPERATOR_KEY_FILE).read_text().strip()
            async with httpx.AsyncClient(
                base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False
            ) as client:
                yield Gateway(process.services, process.runtime, url, client)


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway of this test alone."""
    async with start_gateway(tmp_path) as started:
        yield started
