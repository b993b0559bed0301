"""A fold keeps its results under one version: processes start from what another release has kept."""

from typing import Any

import pytest

from projections.table import Table
from projections.tables import TABLES
from tests.golden import states

HOW_TO = """
{name} makes something else of the same history than before, but its version is still {version}, and tables hold what
the former fold has made. Either undo the change, or raise the version (projections/, `version`), so that tables are
rebuilt and no process starts from their former rows, and run `python -m tests.golden`.
"""


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
def test_a_fold_does_not_change_under_its_version(table: Table[Any]) -> None:
    path = states.path_of(table)
    assert path.exists(), "a golden file is missing: run `python -m tests.golden`"
    told = HOW_TO.format(name=table.name, version=table.projection.version)
    assert states.made(table) == path.read_bytes(), told


def test_the_history_says_something_of_every_projection() -> None:
    assert all(states.made(table) != b"{}\n" for table in TABLES)
