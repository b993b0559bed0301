"""The checks of ``certs check``, as a row: the worst of them is told, with what to do."""

from pathlib import Path

import pytest

from docker.authority import Authority
from docker.cert_checks import Check
from docker.cert_checks import State as CheckState
from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.certificates import ROW, judged
from tests.docker.stub_daemon import furnish
from tests.gateway.doctor.world import here


async def test_without_a_daemon_none_is_used() -> None:
    assert (await look(ROW, here())).state is State.SKIP


async def test_a_missing_file_fails(tmp_path: Path) -> None:
    folder = furnish(tmp_path / "certs", Authority())
    (folder / "client-key.pem").unlink()
    found = await look(ROW, here({"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_CERT_PATH": str(folder)}))
    assert found.state is State.FAIL
    assert found.todo


def _check(state: CheckState) -> Check:
    return Check(check="x", role="client", state=state, sentence=f"It is {state.value}.", todo=f"do {state.value}")


@pytest.mark.parametrize(("worst", "state"), [(CheckState.FAIL, State.FAIL), (CheckState.WARN, State.WARN)])
def test_the_worst_is_told(worst: CheckState, state: State) -> None:
    found = judged([_check(CheckState.PASS), _check(worst)])
    assert (found.state, found.sentence, found.todo) == (state, f"It is {worst.value}.", f"do {worst.value}")


def test_all_that_pass_are_counted() -> None:
    assert "All 2 checks" in judged([_check(CheckState.PASS)] * 2).sentence
