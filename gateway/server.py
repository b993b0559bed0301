"""Serves: hypercorn inside our process, on a socket of ours, ended by our drain (design section 7).

hypercorn's own process master exits 0 when a worker is killed, orphans a child when it is killed itself, and never ends
on Python 3.12 with an open event stream. So its shutdown trigger is our drain, and every step after it has a bound: a
server that does not return is cancelled, a process that does not end is ended.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import hypercorn.asyncio
import msgspec
from hypercorn.config import Config
from hypercorn.typing import Framework
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import server_config
from gateway.drain import Drain, Drained
from gateway.proxy import hypercorn_websocket
from gateway.server_settings import ServerSettings

EXIT_CLEAN: Final = 0
EXIT_FORCED: Final = 70  # sysexits.h EX_SOFTWARE: something of ours had to be ended by force
EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE
EXIT_CONFIG: Final = 78  # EX_CONFIG

SERVER_SECONDS: Final = 4.0  # for hypercorn to return after the drain; its graceful_timeout lies within
CLOSE_SECONDS: Final = 45.0  # for what the caller flushes and closes after the server
RUNNER_SECONDS: Final = 5.0  # for tasks and threads that are left at the very end
_STALLED_MS: Final = 60_000  # bytes sent and not taken for so long end a connection
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("session_gateway.server")


class Address(msgspec.Struct, frozen=True):
    """Where it listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self}"


class ServerError(Exception):
    """The server cannot run. The text is a whole sentence; ``exit_code`` is the process's."""

    exit_code = EXIT_UNAVAILABLE


class BadBind(ServerError):
    """GATEWAY_BIND is no address."""

    exit_code = EXIT_CONFIG


class CannotListen(ServerError):
    """The address is taken, not ours, or not allowed."""


class ServerEnded(ServerError):
    """hypercorn ended although nobody told it to."""

    exit_code = EXIT_FORCED


class Process:
    """The process around a server: where its signals go, and that it ends.

    Until ``hand_to`` was called a signal cancels the main task, so that what has been started is closed again.
    """

    def __init__(self, main: "asyncio.Task[int]") -> None:
        self._target: Callable[[], object] = main.cancel
        self._watchdog: threading.Timer | None = None

    def hand_to(self, target: Callable[[], object]) -> None:
        """Signals call ``target`` from now on, each of them."""
        self._target = target

    def signalled(self) -> None:
        self._target()

    def must_end_within(self, seconds: float) -> None:
        """End the process by force, EXIT_FORCED, unless it has ended by then. A later call counts instead."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = threading.Timer(seconds, _end_by_force, (seconds,))
        self._watchdog.daemon = True
        self._watchdog.start()


def run(main: Callable[[Process], Coroutine[Any, Any, int]]) -> int:
    """Run ``main`` in an event loop of its own, with the process's signals; its exit code.

    From its end on the process has RUNNER_SECONDS: a task or a thread that does not end does not hold it.
    """
    # The mask is inherited through exec: whoever started us may have had them blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*_SIGNALS, signal.SIGCHLD})

    async def within() -> int:
        task: asyncio.Task[int] | None = asyncio.current_task()
        assert task is not None
        process = Process(task)
        asyncio.get_running_loop().set_exception_handler(_pass_over_cancellations)
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, process.signalled)
        try:
            return await main(process)
        finally:
            process.must_end_within(RUNNER_SECONDS)

    try:
        with asyncio.Runner() as runner:
            return runner.run(within())
    except (asyncio.CancelledError, KeyboardInterrupt):
        return EXIT_CLEAN  # told to stop before it served; what had been started is closed


async def serve(
    app: ASGIApp,
    settings: ServerSettings,
    *,
    drain: Drain,
    process: Process,
    on_listening: Callable[[Address], object] | None = None,
    on_drained: Callable[[], Awaitable[object]] | None = None,
) -> int:
    """Serve until a signal, drain, then wait for ``on_drained`` (flush, release): the exit code.

    A second signal ends the waiting of the drain. From its return on the process has CLOSE_SECONDS to end. Raises
    ServerError, and BadServerConfig.
    """
    async with serving(app, settings, drain=drain) as server:
        process.hand_to(server.begin_drain)
        if on_listening is not None:
            on_listening(server.address)
        drained = await server.wait()
    process.must_end_within(CLOSE_SECONDS)
    if on_drained is not None:
        await on_drained()
    return EXIT_CLEAN if not drained.left else EXIT_FORCED


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, settings: ServerSettings, *, drain: Drain) -> AsyncIterator["Server"]:
    """A server within the block; drained at its end, when it was not within. Raises as ``serve``."""
    server = Server(app, settings, drain)
    server.start()
    try:
        yield server
    finally:
        server.begin_drain()
        with contextlib.suppress(ServerEnded):
            await server.wait()


class Server:
    """hypercorn on one socket. ``app`` has ``drain`` within it."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, drain: Drain) -> None:
        self._app = app
        self._settings = settings
        self._drain = drain
        self._told = asyncio.Event()
        self._drained: asyncio.Future[Drained] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._address: Address | None = None

    @property
    def address(self) -> Address:
        assert self._address is not None, "not started"
        return self._address

    def start(self) -> None:
        """Listen and serve. From its return on connections are taken. Raises ServerError, BadServerConfig."""
        config = _config(self._settings)
        listener = listen(self._settings.gateway_bind, config.backlog)
        self._address = Address(*listener.getsockname()[:2])
        # Nothing but this is done to the socket: O_NONBLOCK is a property of what other processes share with us.
        config.bind = [f"fd://{listener.detach()}"]
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        hypercorn_websocket.install()
        framework: Framework = self._served  # type: ignore[assignment]  # starlette's types for the same protocol
        self._task = asyncio.create_task(
            hypercorn.asyncio.serve(framework, config, shutdown_trigger=self._finished, mode="asgi"), name="hypercorn"
        )

    def begin_drain(self) -> None:
        """End: the first call begins the drain, the second ends its waiting."""
        if self._told.is_set():
            self._drain.hurry()
        self._told.set()
        self._drain.begin()

    async def wait(self) -> Drained:
        """Wait until drained and ended. Raises ServerEnded when hypercorn ended before."""
        assert self._task is not None, "not started"
        either: set[asyncio.Future[Any]] = {self._task, self._drained}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._drained.done():
            error = _error_of(self._task)
            raise ServerEnded(f"The server ended although it was not drained: {error}.") from error
        drained = self._drained.result()
        if not await _ended(self._task, SERVER_SECONDS):
            log.warning("the server was ended by force: a client does not read", extra={"operation": "drain"})
            self._task.cancel()
            await _ended(self._task, RUNNER_SECONDS)
        # hypercorn 0.18 raises InvalidStateError on 3.11 when it is cancelled here: only worth a line.
        error = _error_of(self._task)
        if error is not None:
            log.info("the server ended with %s", type(error).__name__, extra={"operation": "drain"})
        return drained

    async def _finished(self) -> None:
        """hypercorn's shutdown trigger."""
        await self._told.wait()
        if not self._drained.done():
            self._drained.set_result(await self._drain.finish(self._settings.drain_seconds))

    async def _served(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await self._app(scope, receive, send)


def check(settings: ServerSettings) -> None:
    """Raise at once what would stop a server with these settings later: ServerError, BadServerConfig."""
    config = _config(settings)
    listen(settings.gateway_bind, config.backlog).close()


def _config(settings: ServerSettings) -> Config:
    return server_config.read(Path(settings.gateway_hypercorn_config or server_config.SHIPPED))


def listen(bind: str, backlog: int) -> socket.socket:
    """A listening socket at ``host:port``. Raises BadBind, CannotListen."""
    host, _, port = bind.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise BadBind(f"GATEWAY_BIND {bind!r} is no address: write host:port, such as 127.0.0.1:8000 or [::1]:8000.")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadBind(f"GATEWAY_BIND {bind!r} is no address of this machine: {error.strerror}.") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(listener)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise CannotListen(f"The gateway cannot listen on {bind}: {_plain(error)}.") from error
    return listener


def _keep_alive(listener: socket.socket) -> None:
    """Inherited by every connection: quiet ones outlive what forgets them, dead and stalled ones are let go."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)


def _plain(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


async def _lifespan(receive: Receive, send: Send) -> None:
    """Our parts start before the server and end after it: hypercorn skips the end when it is cancelled.

    Returning at once tells hypercorn that there is nothing to wait for, and leaves it no task.
    """
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def _ended(task: "asyncio.Task[None]", seconds: float) -> bool:
    return bool((await asyncio.wait({task}, timeout=seconds))[0])


def _error_of(task: "asyncio.Task[None]") -> BaseException | None:
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _pass_over_cancellations(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """asyncio and hypercorn report connections that were cancelled at the end as errors of theirs."""
    if not isinstance(told.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(told)


def _end_by_force(seconds: float) -> None:
    left = ", ".join(sorted(thread.name for thread in threading.enumerate() if not thread.daemon))
    log.critical("the process did not end within %g s and is ended now (threads: %s)", seconds, left)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(EXIT_FORCED)
