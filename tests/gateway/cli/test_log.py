"""``log accept``: an operator goes on with a log that lost events, and the log says so."""

from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio

from events.catalogue import LogForkAccepted
from events.codec import decode
from events.mark import Mark, Marks
from gateway import forks
from gateway.cli.exits import Exit
from tests.event_fixtures import LogDatabase, open_store
from tests.factories import MOMENT, events, new_stream, write
from tests.gateway.cli.conftest import run_process

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("database_variables")]
SEEN = 6


@pytest_asyncio.fixture
async def forked(empty_log: LogDatabase, tmp_path: Path) -> None:
    """A data directory that has seen six events of which the log has, since a restore, four, and one of others."""
    async with open_store(empty_log.app_dsn) as store:
        await store.append(write(new_stream(), *events(5)))
        marks = [Mark.of(event) for event in await store.read_log(limit=4)]
        lost = [Mark(position, uuid4(), MOMENT) for position in (5, SEEN)]
        forks.write(tmp_path, Marks(store.log_id, [*marks, *lost]))


async def accepted(database: LogDatabase) -> list[object]:
    async with open_store(database.app_dsn) as store:
        return [decode(event) for event in await store.read_log(types=("log.fork_accepted",))]


@pytest.mark.usefixtures("forked")
async def test_an_acceptance_is_an_event_and_ends_the_refusal(empty_log: LogDatabase, tmp_path: Path) -> None:
    """What the event says is where the log differs; another look finds nothing to accept."""
    ran = await run_process("log", "accept", "--yes", "--json")
    assert (ran.code, ran.err) == (Exit.OK, "")
    expected = LogForkAccepted(same_until=4, differs_from=5, known_until=SEEN)
    assert await accepted(empty_log) == [expected]
    told = msgspec.structs.asdict(expected)
    assert ran.document == {**told, "position": 6, "dry_run": False}
    async with open_store(empty_log.app_dsn) as store:
        assert await forks.fork_of(tmp_path, store) is None
    kept = forks.read(tmp_path)
    assert kept is not None and [mark.position for mark in kept] == [1, 2, 3, 4, 6]
    again = await run_process("log", "accept", "--yes")
    assert (again.code, len(await accepted(empty_log))) == (Exit.NEGATIVE, 1)


@pytest.mark.usefixtures("forked")
async def test_a_dry_run_says_where_and_changes_nothing(empty_log: LogDatabase, tmp_path: Path) -> None:
    before = (tmp_path / forks.MARK_FILE).read_bytes()
    ran = await run_process("log", "accept", "--dry-run")
    assert ran.code == Exit.OK and "forked at position 5:" in ran.out
    assert await accepted(empty_log) == [] and (tmp_path / forks.MARK_FILE).read_bytes() == before


@pytest.mark.usefixtures("forked")
async def test_nobody_is_asked_through_a_pipe(empty_log: LogDatabase) -> None:
    ran = await run_process("log", "accept")
    assert ran.code == Exit.USAGE and "--yes" in ran.err
    assert await accepted(empty_log) == []


async def test_a_log_that_holds_all_has_nothing_to_accept(empty_log: LogDatabase) -> None:
    """Also where no gateway has ever run."""
    ran = await run_process("log", "accept", "--yes")
    assert ran.code == Exit.NEGATIVE and "nothing to accept" in ran.err
    assert await accepted(empty_log) == []


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    "arguments",
    [("keys", "create", "--name", "chat", "--role", "frontend"), ("keys", "revoke", "k1"), ("erase", "Ada", "--yes")],
)
async def test_nothing_is_decided_on_a_forked_log(arguments: tuple[str, ...], empty_log: LogDatabase) -> None:
    """A key that was revoked there, or a person who was erased, would be so in one of two logs."""
    async with open_store(empty_log.app_dsn) as store:
        before = await store.head()
        ran = await run_process(*arguments)
        assert (ran.code, ran.out) == (Exit.LOG_UNAVAILABLE, "")
        assert "forked at position 5:" in ran.err and "log accept" in ran.err
        assert await store.head() == before


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("arguments", [("keys", "list"), ("projections", "status"), ("replay",)])
async def test_who_reads_a_forked_log_is_warned(arguments: tuple[str, ...]) -> None:
    """It must be looked at to decide what to do; what it shows is not all that was."""
    ran = await run_process(*arguments)
    assert ran.code == Exit.OK
    assert ran.err.startswith("THE LOG HAS FORKED: ") and "forked at position 5:" in ran.err
