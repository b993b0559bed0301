"""Lines are JSON without secrets, and LOG_FILE can be written."""

import os
import secrets
from pathlib import Path

import pytest

from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.structured_logging import ROW, unwritable
from tests.gateway.doctor.world import here


async def test_lines_are_in_order(tmp_path: Path) -> None:
    found = await look(ROW, here({"LOG_FILE": str(tmp_path / "gateway.log")}))
    assert found.state is State.PASS, found.sentence
    assert "gateway.log" in found.sentence
    assert os.listdir(tmp_path) == []


async def test_a_folder_that_is_not_there_fails(tmp_path: Path) -> None:
    found = await look(ROW, here({"LOG_FILE": str(tmp_path / "none" / "gateway.log")}))
    assert (found.state, "does not exist" in found.sentence) == (State.FAIL, True)


async def test_a_secret_that_stays_in_a_line_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "x")  # too short for a key of ours, so it is left as it is
    found = await look(ROW, here())
    assert (found.state, "secret" in found.sentence) == (State.FAIL, True)


def test_a_file_that_can_be_written_is(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "new.log") == ""
