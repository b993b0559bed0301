"""One request, step by step: what comes back, and what is not an answer."""

from pathlib import Path

import pytest

from docker import asking
from docker.authority import Authority
from docker.errors import DaemonSilent, HostUnknown, NoDaemon, PortClosed
from tests.docker.stub_daemon import daemon_context, furnish, http, over_tls, peer, settings_for
from tests.docker.troubles import TROUBLES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path / "certs", Authority())


async def test_status_headers_and_body_come_back(folder: Path) -> None:
    asked = []

    def answer(request: bytes) -> bytes:
        asked.append(request.split(b"\r\n")[0])
        return http("gone", status="404 Not Found")

    with peer(over_tls(daemon_context(folder), answer)) as port:
        found = await asking.ask(settings_for(folder, port), "/info")
    assert (found.status, found.body, found.headers["server"]) == (404, b"gone", "Docker/20.10.24 (linux)")
    assert asked == [b"GET /info HTTP/1.0"]


async def test_what_is_not_http_is_no_daemon(folder: Path) -> None:
    with peer(over_tls(daemon_context(folder), lambda _: b"220 mail\r\n")) as port, pytest.raises(NoDaemon):
        await asking.ask(settings_for(folder, port), "/info")


async def test_an_answer_without_end_is_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOST_BYTES", 1000)
    with peer(over_tls(daemon_context(folder), lambda _: http("x" * 200_000))) as port:
        assert len((await asking.ask(settings_for(folder, port), "/info")).body) < 200_000


async def test_the_next_address_is_tried(folder: Path) -> None:
    with peer(over_tls(daemon_context(folder))) as port:
        _, writer = await asking.dial(["127.0.0.9", "127.0.0.1"], port)
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        writer.transport.abort()
    with pytest.raises(OSError):
        await asking.dial([], 1)


async def test_trouble_is_named(folder: Path) -> None:
    with pytest.raises(HostUnknown):
        await asking.ask(settings_for(folder, 1, docker_host="tcp://nosuch.invalid:1"), "/info")
    with pytest.raises(HostUnknown):
        await asking.ask(settings_for(folder, 1, docker_host=f"tcp://{'a' * 70}.test:1"), "/info")
    with pytest.raises(PortClosed):
        await asking.ask(settings_for(folder, 1), "/info")


async def test_silence_ends_in_time(tmp_path: Path) -> None:
    (mute,) = (trouble for trouble in TROUBLES if trouble.name.endswith("it hangs"))
    with mute.make(tmp_path) as settings, pytest.raises(DaemonSilent):
        await asking.ask(settings, "/info", seconds=0.3)
