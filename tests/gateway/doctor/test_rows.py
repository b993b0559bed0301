"""A row is found by its name, and its module is named alike."""

from pathlib import Path

from gateway.doctor import rows


def test_every_module_is_a_row() -> None:
    folder = Path(rows.__file__).parent
    modules = {path.stem.replace("_", "-") for path in folder.glob("*.py") if not path.stem.startswith("__")}
    assert modules == set(rows.ROWS)
    found = {name: rows.row(name) for name in rows.ROWS}
    assert all(name == row.name and 0 < row.seconds <= 120 for name, row in found.items())
