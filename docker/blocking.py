"""The same service for plain threads: scripts that do not want an event loop of their own.

``BlockingDockerService`` runs a ``DockerService`` on an event loop in one background thread; its methods have the same
names and wait. ``open_service`` answers one door or the other, as USE_ASYNC_DOCKER says. What a call means is left to
``docker/service.py``: the same contract suite runs over this from plain threads.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from docker.aiodocker_service import AiodockerService
from docker.errors import LoopWouldBlock, ServiceClosed
from docker.service import Capability, ContainerEvent, ContainerInfo, DockerService, Mount, VolumeInfo
from docker.settings import DockerSettings

_T = TypeVar("_T")
# A connection that was cut short says goodbye to its peer (TLS): the loop lives on for that (aiohttp's own advice).
_GOODBYE_SECONDS = 0.25
_CANCEL_SECONDS = 5.0  # for an interrupted call to tidy up; a second interrupt does not wait


def open_service(settings: DockerSettings) -> "DockerService | BlockingDockerService":
    """The daemon's service for ``async with``, or for plain ``with`` under USE_ASYNC_DOCKER=false."""
    service = AiodockerService(settings)
    return service if settings.use_async_docker else BlockingDockerService(service)


class BackgroundLoop:
    """An event loop in a daemon thread that holds a service open: opened by the first call, ended by ``close``.

    A daemon thread, so that a script that forgets ``close`` still ends.
    """

    def __init__(self, service: DockerService) -> None:
        self._service = service
        # A call is handed over before ``close`` begins, or refused. Held again by one thread: for an iterator it drops.
        self._lock = threading.RLock()
        self._opened: Future[asyncio.AbstractEventLoop] | None = None
        self._stop = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._process = 0  # whose thread it is
        self._calls: set[asyncio.Task[Any]] = set()  # touched on the loop only
        self._cut = False  # a call was cancelled, or a stream left
        self._closed = False
        self._failure: BaseException | None = None  # of the service when it was left

    def open(self) -> None:
        """Start the thread and enter the service, once; raises what entering it raises."""
        _refuse_loops()
        with self._lock:
            self._running()

    def call(self, make: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Wait for ``make()`` to end on the loop. What interrupts the wait cancels it, and sees it end first."""
        _refuse_loops()
        answer: Future[_T] = Future()
        begun: list[asyncio.Task[_T]] = []
        with self._lock:
            loop = self._running()
        try:  # an interrupt may come at once, so handing over is inside
            with self._lock:
                self._running().call_soon_threadsafe(self._begin, make, answer, begun)
            return answer.result()
        except BaseException as error:
            if not answer.done() and not isinstance(error, ServiceClosed):
                _cancel(loop, begun, answer)
            raise

    def forget(self, make: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Let ``make()`` run on the loop, if there is one, and do not wait. For any thread."""
        with self._lock:
            self._cut = True
            if self._opened is not None and not self._closed:
                self._opened.result().call_soon_threadsafe(self._begin, make, Future(), [])

    def close(self) -> None:
        """Cancel what is under way, whose callers get ServiceClosed; leave the service; end the thread."""
        _refuse_loops()
        with self._lock:
            first, self._closed = not self._closed, True
            if first and self._opened is not None and self._opened.exception() is None:
                self._opened.result().call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
        if first and self._failure is not None:
            raise self._failure

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop, started when there is none yet. Under the lock."""
        if self._closed:
            raise ServiceClosed("This Docker service is closed: open another one.")
        if self._process not in (0, os.getpid()):  # a fork has no thread but the one that forked
            raise ServiceClosed("This Docker service belongs to the process that was forked: open another one here.")
        if self._opened is None:
            self._process = os.getpid()
            self._opened = Future()
            self._thread = threading.Thread(target=self._run, args=(self._opened,), name="docker-blocking", daemon=True)
            self._thread.start()
        return self._opened.result()

    def _run(self, opened: "Future[asyncio.AbstractEventLoop]") -> None:
        try:
            asyncio.run(self._hold(opened))
        except BaseException as error:  # handed to the caller: of ``open`` or of ``close``
            if opened.done():
                self._failure = error
            else:
                opened.set_exception(error)

    async def _hold(self, opened: "Future[asyncio.AbstractEventLoop]") -> None:
        async with self._service:
            opened.set_result(asyncio.get_running_loop())
            await self._stop.wait()
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
        if self._cut:
            await asyncio.sleep(_GOODBYE_SECONDS)

    def _begin(
        self, make: Callable[[], Coroutine[Any, Any, _T]], answer: "Future[_T]", begun: "list[asyncio.Task[_T]]"
    ) -> None:
        task = asyncio.get_running_loop().create_task(make())
        begun.append(task)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        task.add_done_callback(lambda ended: self._end(ended, answer))

    def _end(self, ended: "asyncio.Task[_T]", answer: "Future[_T]") -> None:
        self._cut = self._cut or ended.cancelled()
        _settle(ended, answer)


class BlockingDockerService:
    """``DockerService`` without await, for any number of threads at once.

    A context manager; used without, the first call opens it. Ctrl-C cancels the call under way. After ``close``, and in
    a fork, a call raises ServiceClosed; in a thread that runs an event loop it raises LoopWouldBlock.
    """

    def __init__(self, service: DockerService) -> None:
        self._service = service
        self._background = BackgroundLoop(service)

    @property
    def runtime(self) -> str:
        """As the service says."""
        return self._service.runtime

    @property
    def capabilities(self) -> frozenset[Capability]:
        """As the service says."""
        return self._service.capabilities

    def __enter__(self) -> Self:
        self._background.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the service and end its thread. Calls under way end with ServiceClosed, ``events`` just end."""
        self._background.close()

    def create_container(
        self,
        name: str,
        image: str,
        *,
        environment: Mapping[str, str] = {},
        labels: Mapping[str, str] = {},
        volumes: tuple[Mount, ...] = (),
        port: int = 4096,
        command: tuple[str, ...] | None = None,
    ) -> ContainerInfo:
        return self._background.call(
            lambda: self._service.create_container(
                name, image, environment=environment, labels=labels, volumes=volumes, port=port, command=command
            )
        )

    def start_container(self, container_id: str) -> None:
        self._background.call(lambda: self._service.start_container(container_id))

    def stop_container(self, container_id: str, timeout: int = 10) -> None:
        self._background.call(lambda: self._service.stop_container(container_id, timeout))

    def remove_container(self, container_id: str, force: bool = False) -> None:
        self._background.call(lambda: self._service.remove_container(container_id, force))

    def get_container_info(self, container_id: str) -> ContainerInfo | None:
        return self._background.call(lambda: self._service.get_container_info(container_id))

    def list_containers(self, all: bool = False, labels: Mapping[str, str] = {}) -> list[ContainerInfo]:
        return self._background.call(lambda: self._service.list_containers(all, labels))

    def list_volumes(self, labels: Mapping[str, str] = {}) -> list[VolumeInfo]:
        return self._background.call(lambda: self._service.list_volumes(labels))

    def remove_volume(self, name: str) -> None:
        self._background.call(lambda: self._service.remove_volume(name))

    def logs(self, container_id: str, tail: int = 50) -> list[str]:
        return self._background.call(lambda: self._service.logs(container_id, tail))

    def events(self, past: bool = False) -> Iterator[ContainerEvent]:
        """Deaths from this call on, until ``close``. An iterator belongs to one thread; another takes its own."""

        async def subscribe() -> AsyncIterator[ContainerEvent]:
            return self._service.events(past)

        return self._follow(self._background.call(subscribe))

    def ping(self) -> bool:
        return self._background.call(self._service.ping)

    def _follow(self, source: AsyncIterator[ContainerEvent]) -> Iterator[ContainerEvent]:
        async def step() -> ContainerEvent | None:
            return await anext(source, None)

        try:
            while (event := self._step(step)) is not None:
                yield event
        finally:  # also when the loop over it is left early, by whichever thread drops it
            self._background.forget(lambda: _leave(source))

    def _step(self, step: Callable[[], Coroutine[Any, Any, ContainerEvent | None]]) -> ContainerEvent | None:
        try:
            return self._background.call(step)
        except ServiceClosed:
            return None


def _refuse_loops() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise LoopWouldBlock("This thread runs an event loop, which the call would block: await the async service there.")


def _cancel(loop: asyncio.AbstractEventLoop, begun: "list[asyncio.Task[_T]]", answer: "Future[_T]") -> None:
    """Cancel the call, and wait until it has ended: what it tidies up is done before the caller goes on."""
    with contextlib.suppress(RuntimeError, TimeoutError):  # the loop has ended, and the call with it; it takes long
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in begun])
        answer.exception(_CANCEL_SECONDS)


def _settle(ended: "asyncio.Task[_T]", answer: "Future[_T]") -> None:
    """Give the caller's thread what the call came to, once it has ended."""
    if ended.cancelled():
        answer.set_exception(ServiceClosed("The Docker service was closed while the call was under way."))
    elif (error := ended.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(ended.result())


async def _leave(source: AsyncIterator[ContainerEvent]) -> None:
    close = getattr(source, "aclose", None)  # all of ours are async generators; the contract does not say so
    if close is not None:
        await close()
