"""The log is opened as it is, read twice and measured; nothing is made and nothing written."""

import os
from pathlib import Path

from events.envelope import KEYS
from gateway.doctor.examine import look
from gateway.doctor.row import State
from gateway.doctor.rows.database_persistence import ROW
from gateway.settings import load
from gateway.storage import open_storage
from tests.factories import write
from tests.gateway.doctor.world import here


async def test_without_a_log_there_is_nothing_to_read(tmp_path: Path) -> None:
    found = await look(ROW, here({"GATEWAY_DATA_DIR": str(tmp_path)}))
    assert found.state is State.SKIP
    assert os.listdir(tmp_path) == []


async def test_a_log_is_read_to_its_end(tmp_path: Path) -> None:
    environment = {"GATEWAY_DATA_DIR": str(tmp_path), "USE_DATABASE_STORAGE": "false"}
    async with open_storage(load(environment)) as storage:
        await storage.store.append(write(KEYS))
        held = await look(ROW, here(environment))
    assert (held.state, "is in use by" in held.sentence) == (State.SKIP, True)
    found = await look(ROW, here(environment))
    assert (found.state, found.facts["head"], found.facts["kept_in"]) == (State.PASS, 1, "json"), found.sentence


async def test_a_database_that_is_away_fails(tmp_path: Path) -> None:
    environment = {"GATEWAY_DATA_DIR": str(tmp_path), "DB_HOST": str(tmp_path), "DB_USER": "nobody"}
    found = await look(ROW, here(environment))
    assert (found.state, found.todo) == (State.FAIL, "See 'Database' in docs/operator.md.")
