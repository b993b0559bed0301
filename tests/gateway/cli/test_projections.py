"""``projections``: how the tables stand, whether they are what the log says, and making them anew."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from events.errors import StoreUnavailable
from gateway.cli.exits import Exit
from gateway.settings import load
from gateway.storage import open_storage
from projections import table_report
from projections.comparison import Comparison
from projections.proof import _Comparison
from projections.tables import TABLES
from tests.event_fixtures import LogDatabase, connection
from tests.gateway.cli.conftest import run
from tests.projections.lives import lives

pytestmark = pytest.mark.postgres
NAMES = [table.name for table in TABLES]


@pytest.fixture
def keys(database_variables: dict[str, str]) -> int:
    """A log with a key in it; its position."""
    made = [run("keys", "create", "--role", "auditor", "--name", name, "--json").document for name in ("one", "two")]
    return int(made[-1]["position"])


def sql(database: LogDatabase, query: str) -> Any:
    async def ask() -> Any:
        async with connection(database.admin_dsn) as admin:
            return await admin.fetchval(query)

    return asyncio.run(ask())


def test_tables_are_made_without_a_gateway_and_stand_at_the_head(keys: int) -> None:
    status = run("projections", "status", "--json").document
    assert [one["name"] for one in status["projections"]] == NAMES
    assert {(one["table_version"], one["position"], one["lag"]) for one in status["projections"]} == {(None, 0, keys)}
    ran = run("projections", "rebuild", "--all", "--json")
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert [one["projection"] for one in ran.document["rebuilt"]] == NAMES
    assert [ran.document[name] for name in ("refused", "left", "ended_early")] == [[], [], None]
    after = run("projections", "status", "--json").document
    for one in after["projections"]:
        assert (one["table_version"], one["rebuild"], one["proved"]["differing"]) == (one["version"], None, 0)
        assert one["position"] + one["lag"] == after["head"]
    assert {one["name"]: one["rows"] for one in after["projections"]}["api_keys"] == 2
    assert {one["rows_exact"] for one in after["projections"]} == {True}
    assert after["source"] == "tables" and after["projector"] is None and after["head"] == keys + len(NAMES)


@pytest.mark.usefixtures("keys")
def test_a_person_reads_lines(empty_log: LogDatabase) -> None:
    ran = run("projections", "rebuild", "api_keys")
    assert ran.code == Exit.OK
    assert ran.out.startswith("api_keys: 2 rows at position 2, 2 differed from the former table; ")
    assert "Rebuilding api_keys: from the first event" in ran.err
    status = run("projections", "status")
    assert status.out.splitlines()[0].split() == [
        *("table", "version", "position", "lag", "rows", "updated", "proved", "rebuild")
    ]
    assert status.out.splitlines()[-1] == "No gateway carries the tables on."
    ran = run("projections", "verify", "api_keys")
    assert (ran.code, ran.out) == (Exit.OK, "api_keys: 2 rows at position 2, as the log says.\n")


@pytest.mark.usefixtures("keys")
def test_a_planted_drift_is_named_and_ends_with_one(empty_log: LogDatabase) -> None:
    run("projections", "rebuild", "--all")
    key_id = sql(empty_log, "select min(key_id) from view.api_keys")
    sql(empty_log, f"update view.api_keys set role = 'operator', sha256 = 'known' where key_id = '{key_id}'")
    ran = run("projections", "verify", "--json")
    assert ran.code == Exit.NEGATIVE
    found = {one["name"]: one for one in ran.document["verified"]}
    assert {name: one["differing"] for name, one in found.items()} == {name: int(name == "api_keys") for name in NAMES}
    assert [found["api_keys"][kind] for kind in ("missing", "extra", "changed")] == [0, 0, 1]
    assert found["api_keys"]["drift"] == [
        {
            "key": key_id,
            "kind": "changed",
            "differences": [
                {"field": "role", "table": "operator", "log": "auditor"},
                {"field": "sha256", "table": "(not shown)", "log": "(not shown)"},
            ],
        }
    ]
    ran = run("projections", "verify", "api_keys")
    assert ran.code == Exit.NEGATIVE and "1 row differs (1 changed) at " in ran.out and "known" not in ran.out
    assert [key_id, "role", "operator", "auditor"] in [line.split() for line in ran.out.splitlines()]
    status = run("projections", "status", "--tz", "Asia/Kathmandu").out
    assert "1 row differs (1 changed)" in status and "+05:45" in status
    assert run("projections", "rebuild", "api_keys", "--json").document["rebuilt"][0]["differing"] == 1
    assert run("projections", "verify", "--all").code == Exit.OK


@pytest.mark.usefixtures("keys")
def test_rows_that_are_missing_are_said_to_be(empty_log: LogDatabase) -> None:
    run("projections", "rebuild", "api_keys")
    sql(empty_log, "delete from view.api_keys")
    ran = run("projections", "verify", "api_keys")
    assert ran.out.startswith("api_keys: 2 rows differ (2 missing) at position 2; the table has 0, the log makes 2.\n")
    (one,) = [one for one in run("projections", "status", "--json").document["projections"] if one["proved"]]
    assert [one["proved"][kind] for kind in ("differing", "missing", "extra", "changed")] == [2, 2, 0, 0]


@pytest.mark.usefixtures("keys")
def test_a_drift_that_would_move_the_cursor_cannot(empty_log: LogDatabase) -> None:
    run("projections", "rebuild", "api_keys")
    sql(empty_log, r"update view.api_keys set name = E'\x1b[2J', role = E'a\nb'")
    ran = run("projections", "verify", "api_keys")
    assert "\x1b" not in ran.out and r"\u001b[2J" in ran.out


@pytest.mark.usefixtures("keys")
def test_what_each_run_came_to_is_an_event(empty_log: LogDatabase) -> None:
    run("projections", "rebuild", "sessions")
    run("projections", "verify", "sessions")
    told = sql(
        empty_log,
        "select array_agg(type || ' ' || (actor::jsonb->>'id') order by position) from log.events"
        " where type like 'projection.%'",
    )
    assert told == ["projection.rebuilt cli", "projection.verified cli"]


@pytest.mark.usefixtures("keys")
def test_one_table_that_is_refused_does_not_keep_the_others_waiting(empty_log: LogDatabase) -> None:
    run("projections", "rebuild", "--all")
    sql(empty_log, "update view.projection_checkpoint set version = 99 where name = 'sessions'")
    for command, done in (("rebuild", "rebuilt"), ("verify", "verified")):
        ran = run("projections", command, "--all", "--json")
        assert ran.code == Exit.NEGATIVE
        assert len(ran.document[done]) == len(NAMES) - 1
        assert [one["name"] for one in ran.document["refused"]] == ["sessions"]
        assert "99" in ran.err


@pytest.mark.parametrize("command", ["rebuild", "verify"])
@pytest.mark.usefixtures("keys")
def test_names_that_are_no_table_are_refused(command: str) -> None:
    assert run("projections", command, "lease").code == Exit.USAGE
    assert run("projections", command, "sessions", "--all").code == Exit.USAGE
    if command == "rebuild":
        assert run("projections", command).code == Exit.USAGE


async def test_a_log_in_a_file_is_folded_and_has_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every projection, in the shape of tables; and that there are none is said while a gateway has the file too."""
    monkeypatch.setenv("USE_DATABASE_STORAGE", "false")
    assert (await asyncio.to_thread(run, "projections", "status")).code == Exit.LOG_UNAVAILABLE
    async with open_storage(load(os.environ)) as storage:
        for unit in lives("a", 3, 2):
            await storage.store.append(*unit)
        for command in ("rebuild", "verify"):
            ran = await asyncio.to_thread(run, "projections", command, "--all", "--json")
            assert (ran.code, "which has no tables" in ran.err, ran.out) == (Exit.USAGE, True, "")
    status = (await asyncio.to_thread(run, "projections", "status", "--json")).document
    assert {one["name"]: one["version"] for one in status["projections"]} == {
        table.name: table.projection.version for table in TABLES
    }
    assert {(one["position"], one["lag"]) for one in status["projections"]} == {(status["head"], 0)}
    assert (status["source"], {one["table_version"] for one in status["projections"]}) == ("fold", {None})
    counted = {one["name"]: one["rows"] for one in status["projections"]}
    assert counted["sessions"] == 3 and counted["exchanges"] == 6
    told = await asyncio.to_thread(run, "projections", "status")
    assert ["exchanges", "6"] in [line.split()[::2][:2] for line in told.out.splitlines()]


def test_what_was_done_before_it_ended_is_in_the_document(keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that is told nothing would do all of it again."""
    run("projections", "rebuild", "--all")

    async def away(*_: object) -> None:
        raise StoreUnavailable("the tables cannot be reached: gone")

    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def third(of: Any, fails: Any) -> Any:
        calls = 0

        async def work(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            return await (of if calls < 3 else fails)(*arguments)

        return work

    for word, command, (kind, name, fails), code, why in (
        (
            "rebuilt",
            "rebuild",
            (Comparison, "all", away),
            Exit.LOG_UNAVAILABLE,
            "The tables cannot be reached: gone.",
        ),
        ("verified", "verify", (_Comparison, "_fold", interrupted), Exit.INTERRUPTED, "Interrupted."),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(kind, name, third(getattr(kind, name), fails))
            ran = run("projections", command, "--all", "--json")
        assert ran.code == code
        assert len(ran.document[word]) == 2
        assert (ran.document["left"], ran.document["ended_early"]) == (NAMES[2:], why)


def test_many_rows_are_estimated_unless_they_are_to_be_counted(
    keys: int, empty_log: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_report, "COUNTED_BYTES", 0)
    run("projections", "rebuild", "--all")
    sql(empty_log, "analyze view.api_keys")
    assert "--exact counts" in run("projections", "status").out
    (one,) = [
        one for one in run("projections", "status", "--json").document["projections"] if one["name"] == "api_keys"
    ]
    assert (one["rows"], one["rows_exact"]) == (2, False)
    sql(empty_log, "delete from view.api_keys")
    told = {
        exact: {one["name"]: one["rows"] for one in run(*command).document["projections"]}["api_keys"]
        for exact, command in {
            True: ("projections", "status", "--json", "--exact"),
            False: ("projections", "status", "--json"),
        }.items()
    }
    assert told == {True: 0, False: 2}


@asynccontextmanager
async def held(database: LogDatabase) -> AsyncIterator[None]:
    """A reader whose transaction does not end, so that a rebuild comes to its last step and no further."""
    async with connection(database.app_dsn) as reader, reader.transaction():
        await reader.fetch("select count(*) from view.api_keys")
        yield


@asynccontextmanager
async def rebuilding() -> AsyncIterator[asyncio.subprocess.Process]:
    """A rebuild in a process of its own that is complete and waits."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "projections", "rebuild", "api_keys"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"waiting for whoever reads" not in (line := await process.stderr.readline()):
                assert line, "it ended"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_interrupted_it_says_so_and_goes_on_later(keys: int, empty_log: LogDatabase) -> None:
    await asyncio.to_thread(run, "projections", "rebuild", "api_keys")
    async with held(empty_log), rebuilding() as process:
        status = await asyncio.to_thread(run, "projections", "status", "--json")
        (under_way,) = [one["rebuild"] for one in status.document["projections"] if one["rebuild"]]
        assert f"(process {process.pid})" in under_way["holder"]
        second = await asyncio.to_thread(run, "projections", "rebuild", "api_keys")
        assert second.code == Exit.NEGATIVE and f"(process {process.pid}) is rebuilding api_keys" in second.err
        assert re.search(r"; if it is gone, try again in (\d|1[0-5]) s\.$", second.err.strip())
        third = await asyncio.to_thread(run, "projections", "rebuild", "api_keys", "--json")
        (refused,) = third.document["refused"]
        assert refused["holder"] == under_way["holder"] and refused["expires_at"] >= under_way["expires_at"]
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == Exit.INTERRUPTED
    assert b"The same command goes on from there" in err and b"Traceback" not in err
    status = await asyncio.to_thread(run, "projections", "status")
    assert "interrupted" in status.out
    done = await asyncio.to_thread(run, "projections", "rebuild", "api_keys")
    assert done.code == Exit.OK and "going on from position" in done.err


async def test_killed_it_is_gone_on_with_or_given_up(keys: int, empty_log: LogDatabase) -> None:
    await asyncio.to_thread(run, "projections", "rebuild", "api_keys")
    async with held(empty_log), rebuilding() as process:
        process.kill()
        await process.wait()
    async with connection(empty_log.admin_dsn) as admin:  # what a quarter of a minute does
        await admin.execute("update view.lease set expires_at = clock_timestamp()")
    ran = await asyncio.to_thread(run, "projections", "rebuild", "api_keys", "--abandon", "--json")
    assert (ran.code, ran.document["abandoned"]) == (Exit.OK, ["api_keys"])
    ran = await asyncio.to_thread(run, "projections", "rebuild", "api_keys", "--abandon")
    assert (ran.code, ran.out) == (Exit.NEGATIVE, "There is nothing to drop.\n")
    done = await asyncio.to_thread(run, "projections", "rebuild", "api_keys")
    assert done.code == Exit.OK and "from the first event" in done.err
