"""A real dockerd is started with exactly the shipped file, and a session's container is reached."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from docker import image_archive, names
from docker.aiodocker_service import AiodockerService
from docker.daemon_setup import SHIPPED
from docker.image import ECHO_IMAGE, echo_image
from docker.service import Address
from tests.docker.daemon import missing
from tests.docker.set_up_daemon import SetUpDaemon, certificates_of, got, within
from tests.docker_fixtures import without_docker

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def shipped() -> Iterator[SetUpDaemon]:
    if reason := missing():
        without_docker(reason)
    daemon = SetUpDaemon(4, local=True)
    (daemon.etc / "certs").mkdir(parents=True)
    (daemon.etc / "daemon.json").write_bytes(SHIPPED.read_bytes())
    try:
        daemon.prepare()
        for name, content in certificates_of(daemon.folder / "certs").items():
            (daemon.etc / "certs" / name).write_bytes(content)
        daemon.launch()
        yield daemon
    finally:
        daemon.stop()


async def opened(daemon: SetUpDaemon) -> tuple[Address | None, str]:
    """A started session's container: where it is reached, and what answered there."""
    settings = msgspec.structs.replace(daemon.settings, session_network="session-gateway")
    async with AiodockerService(settings) as service:
        await image_archive.install(service, echo_image())
        made = await service.create_container(names.container_name(), ECHO_IMAGE)
        await service.start_container(made.id)
        info = await service.get_container_info(made.id)
        assert info is not None
        assert info.address is not None
        async with asyncio.timeout(20):
            while True:
                try:
                    return info.address, str(await asyncio.to_thread(inside, daemon, info.address))
                except OSError:
                    await asyncio.sleep(0.05)


def inside(daemon: SetUpDaemon, address: Address) -> int:
    with within(daemon.namespace):
        return got(address.host, address.port, "/global/health")


def test_a_session_is_reached_on_its_published_port(shipped: SetUpDaemon) -> None:
    """The file that was shipped before had iptables off, with which nothing answers there (decision 29)."""

    def work() -> tuple[Address | None, str]:
        with within(shipped.namespace):
            return asyncio.run(opened(shipped))

    with ThreadPoolExecutor(1) as pool:
        address, status = pool.submit(work).result()
    assert address is not None
    assert address.host == "127.0.0.1"
    assert status == "200"
