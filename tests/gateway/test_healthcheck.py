"""The image's health check: ready is healthy, draining or silent is not, whatever GATEWAY_BIND says."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from gateway.healthcheck import main


@contextmanager
def answering(status: int, host: str = "127.0.0.1") -> Iterator[int]:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Ready) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_ready_is_healthy(bind: str) -> None:
    with answering(200) as port:
        assert main({"GATEWAY_BIND": f"{bind}:{port}"}) == 0


@pytest.mark.parametrize("bind", ["[::1]", "[::]"])
def test_an_address_of_version_6_too(bind: str) -> None:
    with answering(200, "::1") as port:
        assert main({"GATEWAY_BIND": f"{bind}:{port}"}) == 0


def test_draining_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(503) as port:
        assert main({"GATEWAY_BIND": f"127.0.0.1:{port}"}) == 1
    assert "503" in capsys.readouterr().out


def test_silence_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert main({"GATEWAY_BIND": f"127.0.0.1:{port}"}) == 1
    assert main({"GATEWAY_BIND": "nonsense"}) == 1
    assert capsys.readouterr().out.count("does not answer") == 2


def test_it_loads_nothing_of_the_product() -> None:
    """It runs in every container every few seconds."""
    code = (
        "import sys, gateway.healthcheck; print([name for name in sys.modules if name in ('msgspec', 'gateway.app')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
