"""The diagnosis of the daemon, as a row."""

from pathlib import Path

from docker.authority import Authority
from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.tls_connection import ROW
from tests.docker.stub_daemon import daemon_context, furnish, over_tls, peer
from tests.gateway.doctor.world import here


async def looked(folder: Path, port: int) -> tuple[State, str, str]:
    found = await look(ROW, here({"DOCKER_HOST": f"tcp://127.0.0.1:{port}", "DOCKER_CERT_PATH": str(folder)}))
    return found.state, found.facts["verdict"], found.todo


async def test_a_daemon_that_answers_passes(tmp_path: Path) -> None:
    folder = furnish(tmp_path / "certs", Authority())
    with peer(over_tls(daemon_context(folder))) as port:
        assert await looked(folder, port) == (State.PASS, "ok", "")
        (folder / "client-key.pem").chmod(0o644)
        state, verdict, todo = await looked(folder, port)
    assert (state, verdict) == (State.WARN, "ok")
    assert f"chmod 0400 {folder}/client-key.pem" in todo


async def test_a_daemon_that_does_not_fails_with_its_verdict(tmp_path: Path) -> None:
    folder = furnish(tmp_path / "certs", Authority())
    state, verdict, todo = await looked(folder, 1)
    assert (state, verdict) == (State.FAIL, "port-closed")
    assert todo.startswith("Start dockerd")
