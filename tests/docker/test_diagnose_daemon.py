"""The verdicts of a real dockerd, which refuses a certificate without saying why."""

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from docker.aiodocker_service import AiodockerService
from docker.authority import Authority
from docker.diagnose import diagnose
from docker.errors import DockerError
from docker.settings import DockerSettings
from docker.verdicts import verdict_of
from tests.docker.stub_daemon import LONG_AGO, put
from tests.docker.troubles import SOON, at_another_time
from tests.docker_fixtures import DockerDaemon

pytestmark = pytest.mark.docker


def authority_of(folder: Path) -> Authority:
    """The one that signed a private daemon's certificate: its files are the test's."""
    return Authority.load((folder / "ca.pem").read_bytes(), (folder / "ca-key.pem").read_bytes())


def given(daemon: DockerDaemon, folder: Path, pair: tuple[bytes, bytes], ca: bytes | None = None) -> DockerSettings:
    put(folder, ca=ca or (Path(daemon.settings.docker_cert_path) / "ca.pem").read_bytes())
    put(folder, client_cert=pair[0], client_key=pair[1])
    return msgspec.structs.replace(daemon.settings, docker_cert_path=str(folder))


async def verdicts(settings: DockerSettings) -> set[str]:
    """Of the diagnosis and of the service, which must be one."""
    with pytest.raises(DockerError) as caught:
        async with AiodockerService(settings) as service:
            await service.list_containers()
    return {(await diagnose(settings)).verdict, verdict_of(caught.value).word}


async def test_a_daemon_that_can_be_used_says_its_version(docker_daemon: DockerDaemon) -> None:
    found = await diagnose(docker_daemon.settings)
    assert found.usable, found.sentence
    assert found.facts.tls_version == "TLSv1.3"
    assert found.facts.daemon_version == docker_daemon.ask("GET", "/version")[1]["Version"]


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ("other authority", "refused-other-authority"),
        ("for daemons", "refused-not-for-clients"),
        ("ended", "refused-expired"),
        ("to come", "refused-not-yet-valid"),
        ("of another daemon", "daemon-other-authority"),
    ],
)
async def test_each_refusal_has_its_verdict(
    docker_daemon: DockerDaemon, tmp_path: Path, fault: str, verdict: str
) -> None:
    if not docker_daemon.enter:
        pytest.skip("the CA's key of the daemon given by DOCKER_HOST is not ours")
    ours, other = authority_of(Path(docker_daemon.settings.docker_cert_path)), Authority()
    pair = {
        "other authority": other.client,
        "for daemons": lambda: ours.server(["127.0.0.1"]),
        "ended": at_another_time(ours, LONG_AGO, 1).client,
        "to come": at_another_time(ours, SOON, 10).client,
        "of another daemon": other.client,
    }[fault]()
    ca = other.certificate if fault == "of another daemon" else None
    began = dt.datetime.now(dt.UTC)
    assert await verdicts(given(docker_daemon, tmp_path, pair, ca)) == {verdict}
    assert dt.datetime.now(dt.UTC) - began < dt.timedelta(seconds=10)  # two of them, five seconds each


async def test_a_daemon_called_by_another_name_is_not_trusted(docker_daemon: DockerDaemon) -> None:
    host, _, port = docker_daemon.settings.docker_host.removeprefix("tcp://").partition(":")
    mapped = msgspec.structs.replace(docker_daemon.settings, docker_host=f"tcp://[::ffff:{host}]:{port}")
    assert await verdicts(mapped) == {"daemon-other-name"}
