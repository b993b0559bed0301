"""A real dockerd accepts what is made, renewed and replaced, and refuses what it should, from its restarts on."""

import asyncio
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from docker import certs
from docker.asking import ask
from docker.cert_trial import try_out
from docker.errors import DaemonRefusedUs, DaemonUntrusted
from docker.settings import DockerSettings, daemon_url
from docker.tls import ask_why, classify
from tests.docker.bare_daemon import BareDaemon, bare_daemon, missing
from tests.docker_fixtures import without_docker

pytestmark = pytest.mark.docker


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[BareDaemon]:
    if reason := missing():
        without_docker(reason)
    certs.generate(tmp_path / "certs", hosts=["127.0.0.1"], days=2)
    with bare_daemon(tmp_path / "certs") as daemon:
        yield daemon


def speak(settings: DockerSettings) -> int:
    return asyncio.run(ask(settings, "/_ping", seconds=10)).status


def trial_at(settings: DockerSettings) -> certs.Trial:
    def trial(authority: bytes, certificate: bytes, key: bytes) -> None:
        asyncio.run(try_out(settings, authority, certificate, key))

    return trial


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_certificates_are_renewed_and_the_authority_replaced_before_a_real_daemon(
    daemon: BareDaemon, tmp_path: Path
) -> None:
    """One after the other, since a daemon takes its time to start; whoever follows the folder is always accepted."""
    folder, first = tmp_path / "certs", Path(shutil.copytree(tmp_path / "certs", tmp_path / "first"))
    trial = trial_at(daemon.settings)

    certs.renew(folder, "client", trial=trial)  # a daemon that knows nothing of it accepts it
    assert speak(daemon.settings) == speak(daemon.settings_of(first)) == 200

    certs.renew(folder, "ca")
    assert speak(daemon.settings) == 200  # it still runs with the former files
    before = contents(folder)
    with pytest.raises(DaemonUntrusted):
        certs.finish(folder, trial=trial)
    with pytest.raises(DaemonRefusedUs):
        certs.renew(folder, "client", trial=trial)
    assert contents(folder) == before

    daemon.restart()  # with the bundle, and a certificate of the new CA
    assert speak(daemon.settings) == 200
    with pytest.raises(DaemonUntrusted):  # a gateway that was forgotten does not trust the new one
        speak(daemon.settings_of(first))
    between = Path(shutil.copytree(folder, tmp_path / "between"))

    certs.finish(folder, trial=trial)
    assert speak(daemon.settings) == speak(daemon.settings_of(between)) == 200
    daemon.restart()  # and from now on the former CA's clients are refused: their certificates are revoked
    assert speak(daemon.settings) == 200
    with pytest.raises(DaemonRefusedUs):
        speak(daemon.settings_of(between))
    refuse_all_strangers(daemon, folder)


def refuse_all_strangers(daemon: BareDaemon, folder: Path) -> None:
    """Without a certificate, or with one of another CA or of another use."""
    strangers: dict[str, Callable[[], tuple[bytes, bytes]]] = {
        "another CA": lambda: certs.Authority().client(),
        "for daemons": lambda: ((folder / "server-cert.pem").read_bytes(), (folder / "server-key.pem").read_bytes()),
    }
    for pair in strangers.values():
        with pytest.raises(DaemonRefusedUs):
            trial_at(daemon.settings)((folder / "ca.pem").read_bytes(), *pair())
    with pytest.raises(DaemonUntrusted):
        trial_at(daemon.settings)(certs.Authority().certificate, *certs.Authority().client())
    bare = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    refusal = asyncio.run(ask_why(daemon_url(daemon.settings), bare))
    assert isinstance(classify(refusal or OSError(), "the daemon"), DaemonRefusedUs)
