"""``schema``: what it says of a database is what a start does to it, and a dry run is the SQL itself."""

import asyncio
from pathlib import Path

import pytest

from events import embedded
from events.schema_plan import sql_files
from gateway import RELEASE
from gateway.cli.exits import Exit
from gateway.settings import load
from gateway.storage import open_storage
from tests.event_fixtures import APP_USER, connection
from tests.gateway.cli.conftest import run, run_process

pytestmark = pytest.mark.postgres
FILES = [file.name for file in sql_files()]


@pytest.fixture
def empty_database(database: str, database_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The variables of a database without a log."""
    name = database.partition("?")[0].rpartition("/")[2]
    monkeypatch.setenv("DB_NAME", name)
    monkeypatch.setenv("DB_ADMIN_URL", database)
    return database


def execute(dsn: str, statement: str) -> None:
    async def work() -> None:
        async with connection(dsn) as admin:
            await admin.execute(statement)

    asyncio.run(work())


@pytest.mark.usefixtures("database_variables")
def test_database_that_a_gateway_made_is_up_to_date() -> None:
    ran = run("schema", "status")
    assert (ran.code, ran.err) == (Exit.OK, "")
    title, *rows, verdict, rights = ran.out.splitlines()
    assert title.split() == ["file", "release", "state"]
    assert [row.split() for row in rows] == [[name, RELEASE, "applied"] for name in [*FILES, "release.toml"]]
    assert verdict == f"The database is of release {RELEASE}, and up to date."
    assert "rights are separated" in rights and "session_gateway_owner" in rights
    told = run("schema", "status", "--json")
    assert told.code == Exit.OK
    assert (told.document["verdict"], told.document["rights_separated"]) == ("up to date", True)
    assert "steps" not in told.document
    assert run("schema", "apply").out == f"There is nothing to apply: the database is of release {RELEASE}.\n"
    assert run("schema", "apply", "--dry-run").out == "-- There is nothing to apply.\n"


def test_dry_run_prints_the_sql_and_runs_none(empty_database: str) -> None:
    before = run("schema", "status", "--json")
    assert (before.code, before.document["verdict"], before.document["database"]) == (Exit.NEGATIVE, "pending", None)
    dry = run("schema", "apply", "--dry-run")
    assert (dry.code, dry.err) == (Exit.OK, "")
    assert run("schema", "status", "--json").document == before.document
    execute(empty_database, dry.out)
    assert run("schema", "status", "--json").document["verdict"] == "up to date"


@pytest.mark.usefixtures("empty_database")
def test_apply_brings_the_database_up_to_this_release() -> None:
    dry = run("schema", "apply", "--dry-run", "--json").document
    done = run("schema", "apply", "--json").document
    assert done["files"] == dry["files"] == FILES
    assert (done["former"], done["release"], done["sql"]) == (None, RELEASE, [])
    assert run("schema", "status").code == Exit.OK


def test_database_of_a_later_release_is_left_alone(
    database_variables: dict[str, str],
) -> None:
    admin = database_variables["DB_ADMIN_URL"]
    execute(admin, "update public.session_gateway_schema set release = '9.0.0' where file = 'release.toml'")
    ran = run("schema", "status")
    assert ran.code == Exit.OK and "is served as it is" in ran.out
    for options in ((), ("--dry-run",)):
        ran = run("schema", "apply", *options)
        assert (ran.code, ran.out) == (
            Exit.OK,
            f"The database is of release 9.0.0: nothing of {RELEASE} is applied.\n",
        )
    execute(admin, "update public.session_gateway_schema set oldest = '8.0.0' where file = 'release.toml'")
    ran = run("schema", "status")
    assert ran.code == Exit.NEGATIVE and "may not be served by a release before 8.0.0" in ran.out
    for options in ((), ("--dry-run",)):
        ran = run("schema", "apply", *options)
        assert ran.code == Exit.LOG_UNAVAILABLE
        assert ran.err.startswith("The database is of release 9.0.0, which lets no release before 8.0.0 serve")


async def test_gateway_that_may_not_serve_says_so_in_one_sentence(database_variables: dict[str, str]) -> None:
    """As a process: from its end on ``serve`` gives the process it is in some seconds."""
    async with connection(database_variables["DB_ADMIN_URL"]) as admin:
        await admin.execute(
            "update public.session_gateway_schema set release = '9.0.0', oldest = '8.0.0' where file = 'release.toml'"
        )
    ran = await run_process("serve", SESSION_RUNTIME="mock", GATEWAY_BIND="127.0.0.1:0")
    assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
    assert [line for line in ran.err.splitlines() if not line.startswith("{")] == [
        "the database is of release 9.0.0, which lets no release before 8.0.0 serve on it, "
        f"and this is {RELEASE}: start 8.0.0 or a later one."
    ]


def test_edited_file_is_told(database_variables: dict[str, str]) -> None:
    execute(
        database_variables["DB_ADMIN_URL"],
        "update public.session_gateway_schema set sha256 = 'x' where file = '110_events.sql'",
    )
    ran = run("schema", "status")
    assert ran.code == Exit.NEGATIVE
    rows = [line.split() for line in ran.out.splitlines()]
    assert ["110_events.sql", RELEASE, "edited"] in rows
    assert run("schema", "apply").code == Exit.LOG_UNAVAILABLE


def test_gateway_without_an_admin_may_look(database_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DB_ADMIN_URL")
    ran = run("schema", "status")
    assert ran.code == Exit.OK and f"The migrating role {APP_USER} may not apply changes." in ran.out


@pytest.mark.usefixtures("database_variables")
def test_database_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_ADMIN_URL", "postgresql://u:hunter@127.0.0.1:1/d")
    ran = run("schema", "status")
    assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
    assert len(ran.err.splitlines()) == 1 and "hunter" not in ran.err


def test_log_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for command in (("status",), ("apply",), ("apply", "--dry-run")):
        ran = run("schema", *command)
        assert ran.code == Exit.LOG_UNAVAILABLE and "There is no log in" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_log_in_a_file_has_no_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_DATABASE_STORAGE", "false")
    ran = run("schema", "status")
    assert ran.code == Exit.USAGE and "has no schema" in ran.err


def test_embedded_postgres_is_started_for_the_command(tmp_path: Path) -> None:
    async def make() -> None:
        async with open_storage(load({"GATEWAY_DATA_DIR": str(tmp_path)})):
            pass

    try:
        asyncio.run(make())
        assert run("schema", "status").code == Exit.OK
        assert run("schema", "apply", "--json").document["files"] == []
    finally:
        asyncio.run(embedded.remove(tmp_path))
