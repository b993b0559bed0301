"""The SQL of an upgrade as text: complete, in order, and nothing where nothing is to be done."""

import msgspec
import pytest

from events.schema_plan import MANIFEST, Kept, Release, SqlFile, plan, read
from events.schema_roles import Roles
from events.schema_steps import SchemaEdited, SchemaTooNew, Status, status

OURS = read()
ROLES = Roles("admin", "the owner", "an'app", may_change=True, separated=True, statements=("create role x",))
SETTLED = msgspec.structs.replace(ROLES, statements=())


def made(ours: Release = OURS, known: dict[str, Kept] | None = None, roles: Roles = ROLES) -> Status:
    return status(plan(ours, known or {}), ours, roles, has_history=bool(known), partition_size=None)


def all_of(ours: Release, *, of: str | None = None, oldest: str | None = None) -> dict[str, Kept]:
    number = of or ours.manifest.release
    known = {file.name: Kept(file.sha256, number) for file in ours.files}
    return {**known, MANIFEST: Kept(ours.sha256, number, oldest or ours.manifest.oldest)}


def test_first_start_makes_roles_history_and_files_in_this_order() -> None:
    found = made()
    whats = [step.what for step in found.steps]
    files = [file.name for file in OURS.files]
    assert whats == ["roles", "history", "settings", "owner", *files, "owner", "history"]
    assert [step.what for step in found.steps if step.file] == files
    assert found.verdict == "pending"


def test_names_of_roles_are_quoted() -> None:
    """They come from settings."""
    told = {step.what: step.sql for step in reversed(made().steps)}
    assert "'an''app'" in told["settings"]
    assert told["owner"] == 'set local role "the owner"'
    assert 'to "an\'app";' in told["history"]


def test_nothing_is_run_where_all_is_done() -> None:
    found = made(known=all_of(OURS), roles=SETTLED)
    assert (found.verdict, found.steps) == ("up to date", ())
    found.check()


def test_role_that_is_missing_is_made_where_all_else_is_done() -> None:
    """Another DB_USER than at the last start."""
    assert [step.what for step in made(known=all_of(OURS)).steps] == ["roles"]


def test_everything_run_is_written_down_with_the_release() -> None:
    *_, last = made().steps
    for name in (MANIFEST, *(file.name for file in OURS.files)):
        assert f"('{name}', " in last.sql
    assert last.sql.count(f"'{OURS.manifest.release}'") == len(OURS.files) + 1


def test_release_without_a_changed_file_writes_itself_down_alone() -> None:
    known = {**all_of(OURS), MANIFEST: Kept("another", "0.1.0", "0.1.0")}
    (step,) = made(known=known, roles=SETTLED).steps
    assert step.what == "history" and ".sql" not in step.sql


@pytest.mark.parametrize(("oldest", "verdict"), [("0.1.0", "newer"), ("99.0.0", "too new")])
def test_nothing_is_run_on_a_later_release(oldest: str, verdict: str) -> None:
    found = made(known=all_of(OURS, of="99.0.0", oldest=oldest))
    assert (found.verdict, found.steps) == (verdict, ())
    if verdict == "newer":
        found.check()
        return
    with pytest.raises(SchemaTooNew, match=r"99\.0\.0"):
        found.check()


def test_nothing_is_run_beside_an_edited_file() -> None:
    first = msgspec.structs.replace(OURS.files[0], sha256="edited")
    ours = msgspec.structs.replace(OURS, files=(first, *OURS.files[1:], SqlFile("299_new.sql", "select 1", "x", False)))
    found = made(ours, all_of(OURS))
    assert (found.verdict, found.steps) == ("edited", ())
    with pytest.raises(SchemaEdited, match=first.name):
        found.check()
