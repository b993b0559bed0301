"""The blocking door: what plain threads may rely on. The contract itself is in tests/contracts, over this door too."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from docker.aiodocker_service import AiodockerService
from docker.blocking import BlockingDockerService, open_service
from docker.errors import DaemonFailed, ImageMissing, LoopWouldBlock, ServiceClosed
from docker.mock import MockDockerService
from docker.settings import DockerSettings


class Held:
    """A sleep that says when a call lags, and lets it go on or tells that it was cancelled."""

    def __init__(self) -> None:
        self.reached, self.cancelled = threading.Event(), threading.Event()

    async def __call__(self, seconds: float) -> None:
        if not seconds:
            return
        self.reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # whoever interrupted it waits for what it tidies up
            self.cancelled.set()
            raise


def test_a_script_does_all_of_it_without_await() -> None:
    mock = MockDockerService()
    with BlockingDockerService(mock) as service:
        made = service.create_container("gw-1", "any", labels={"a": "b"})
        service.start_container(made.id)
        assert [info.id for info in service.list_containers(labels={"a": "b"})] == [made.id]
        service.stop_container(made.id)
        service.remove_container(made.id)
        assert service.get_container_info("gw-1") is None
        assert service.ping() is True


def test_errors_are_those_of_the_service() -> None:
    with BlockingDockerService(MockDockerService(images=())) as service, pytest.raises(ImageMissing, match="absent"):
        service.create_container("gw-1", "absent")


def test_many_threads_call_at_once() -> None:
    """Eight calls are in the service at one moment: none waits for another to end."""
    together = asyncio.Barrier(8)

    async def meet(seconds: float) -> None:
        if seconds:
            await together.wait()

    mock = MockDockerService(sleep=meet)
    mock.lag("create", 1)
    with BlockingDockerService(mock) as service, ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda number: service.create_container(f"gw-{number}", "any"), range(8)))
    assert len({info.id for info in made}) == 8


def test_an_interrupt_cancels_the_call_and_sees_it_end() -> None:
    held = Held()
    mock = MockDockerService(sleep=held)
    mock.lag("create", 60)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with BlockingDockerService(mock) as service:

            def interrupt() -> None:
                held.reached.wait(20)
                os.kill(os.getpid(), signal.SIGINT)

            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            with pytest.raises(KeyboardInterrupt):
                service.create_container("gw-1", "any")
            assert held.cancelled.is_set(), "it has ended before the interrupt goes on"
            interrupter.join()
            assert service.list_containers(all=True) == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_call_after_close_says_so() -> None:
    service = BlockingDockerService(MockDockerService())
    assert service.ping() is True
    service.close()
    service.close()
    with pytest.raises(ServiceClosed, match="closed"):
        service.ping()


def test_closing_without_a_call_starts_nothing() -> None:
    before = threading.active_count()
    BlockingDockerService(MockDockerService()).close()
    assert threading.active_count() == before


def test_close_ends_a_call_under_way_and_the_thread() -> None:
    held = Held()
    mock = MockDockerService(sleep=held)
    mock.lag("stop", 60)
    before = threading.active_count()
    service = BlockingDockerService(mock)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(service.stop_container, "gw-1")
        assert held.reached.wait(20)
        service.close()
        with pytest.raises(ServiceClosed, match="under way"):
            call.result(20)
    assert threading.active_count() == before


def test_events_are_followed_from_the_call_on_and_end_on_close() -> None:
    mock = MockDockerService()
    service = BlockingDockerService(mock)
    events = service.events()
    service.start_container(service.create_container("gw-1", "any").id)
    mock.die("gw-1", 4)
    assert next(events).exit_code == 4
    with ThreadPoolExecutor(1) as threads:
        rest = threads.submit(list, events)
        service.close()
        assert rest.result(20) == []


def test_events_told_from_another_thread_wake_whoever_waits() -> None:
    mock = MockDockerService()
    with BlockingDockerService(mock) as service, ThreadPoolExecutor(1) as threads:
        events = service.events()
        service.start_container(service.create_container("gw-1", "any").id)
        waiting = threads.submit(next, events)
        mock.die("gw-1", 5)
        assert waiting.result(20).exit_code == 5


def test_an_error_of_the_stream_is_the_iterators() -> None:
    mock = MockDockerService()
    with BlockingDockerService(mock) as service:
        events = service.events()
        mock.lose_events(DaemonFailed("gone"))
        with pytest.raises(DaemonFailed, match="gone"):
            next(events)


async def test_a_thread_with_an_event_loop_is_refused() -> None:
    service = BlockingDockerService(MockDockerService())
    for call in (service.ping, service.__enter__, service.events, service.close):
        with pytest.raises(LoopWouldBlock, match="runs an event loop"):
            call()
    await asyncio.to_thread(service.close)


def test_what_fails_when_the_service_is_entered_is_told_at_every_call() -> None:
    class Broken(MockDockerService):
        async def __aenter__(self) -> "Broken":
            raise DaemonFailed("no room")

    service = BlockingDockerService(Broken())
    for call in (service.__enter__, service.ping):
        with pytest.raises(DaemonFailed, match="no room"):
            call()
    service.close()


@pytest.mark.parametrize("forgotten", ["service.ping()", "service.events()", "next(service.events())"])
def test_a_script_that_forgets_to_close_ends(forgotten: str) -> None:
    """Also with a follower at work in a daemon thread of its own."""
    script = f"""
import threading
from docker.blocking import BlockingDockerService
from docker.mock import MockDockerService
service = BlockingDockerService(MockDockerService())
service.ping()
worker = threading.Thread(target=lambda: {forgotten}, daemon=True)
worker.start()
worker.join(0.1)
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_fork_is_told_to_open_its_own() -> None:
    """It has no thread that could answer, and would wait for ever."""
    script = """
import os
from docker.blocking import BlockingDockerService
from docker.mock import MockDockerService
with BlockingDockerService(MockDockerService()) as service:
    service.ping()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    print(child > 0, service.ping())
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "True True\n")
    assert "open another one here" in ended.stderr


def test_the_setting_chooses_the_door() -> None:
    settings = DockerSettings(docker_host="tcp://127.0.0.1:1")
    assert isinstance(open_service(settings), AiodockerService)
    blocking = open_service(msgspec.structs.replace(settings, use_async_docker=False))
    assert isinstance(blocking, BlockingDockerService)
    assert blocking.runtime == "docker"
