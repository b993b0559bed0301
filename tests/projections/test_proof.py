"""Proof: a table is what the log says, or the rows that are not are named."""

import asyncio
from typing import Any

import pytest

from events.catalogue import ProjectionVerified
from events.ids import short
from projections import follower
from projections import proof as proof_module
from projections.errors import RebuildRefused
from projections.proof import EXAMPLES, NAMED, Proof, Prover
from projections.table import Table
from projections.tables import ADMISSION, API_KEYS, SESSIONS, TABLES
from tests.event_fixtures import connection
from tests.projections.rebuilding import Ground
from tests.projections.rebuilding import database as database
from tests.projections.rebuilding import on as on

pytestmark = pytest.mark.postgres


class Told:
    def __init__(self) -> None:
        self.events: list[ProjectionVerified] = []

    async def tell(self, event: ProjectionVerified) -> None:
        self.events.append(event)


async def prove(on: Ground, table: Table[Any], told: Told | None = None, watch: Any = lambda progress: None) -> Proof:
    return await Prover(on.store, on.store.pool, tell=(told or Told()).tell).prove(table, watch)


async def test_every_table_is_what_the_log_says(on: Ground) -> None:
    head = (await on.store.head()).position
    for table in TABLES:
        told = Told()
        proof = await prove(on, table, told)
        assert (proof.differing, proof.drift, proof.position) == (0, (), head)
        assert proof.rows == len(await on.rows(table))
        assert told.events == [proof.event]
        noted = await on.sql(
            "select row(version, position, rows, differing)::text from view.projection_proof where name = $1",
            table.name,
        )
        assert noted == f"({proof.version},{head},{proof.rows},0)"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.name))
async def test_what_is_planted_in_any_table_is_found_and_named(on: Ground, table: Table[Any]) -> None:
    """A row that is gone, one too many, and one whose state says something else, in every table."""
    rows = sorted(await on.rows(table))
    assert rows, "the log of the tests concerns every table"
    key, name = table.key.name, f"view.{table.name}"
    other = table.columns[1].name
    columns = ", ".join([column.name for column in table.columns[1:]] + ["state"])
    await on.sql(
        f"insert into {name} ({key}, {columns}) select 'nobody', {columns} from {name} where {key} = $1", rows[0]
    )
    await on.sql(f"update {name} set state = convert_to('{{}}', 'UTF8') where {key} = $1", rows[0])
    wanted = {"nobody": "extra", rows[0]: "changed"}
    if len(rows) > 1:
        await on.sql(f"delete from {name} where {key} = $1", rows[1])
        wanted[rows[1]] = "missing"
    proof = await prove(on, table)
    assert {each.key: each.kind for each in proof.drift} == wanted
    assert proof.differing == len(wanted)
    assert (proof.missing, proof.extra, proof.changed) == (len(wanted) - 2, 1, 1)
    assert (proof.rows, proof.made) == (len(rows) + 1 - proof.missing, len(rows))
    assert set(proof.event.examples) == set(wanted)
    changed = next(each for each in proof.drift if each.kind == "changed")
    assert changed.differences and all(each.field.startswith("state.") for each in changed.differences)
    assert other not in {each.field for each in changed.differences}


async def test_a_column_that_the_state_does_not_have_is_compared_too(on: Ground) -> None:
    """``state`` is what a process goes on from; people and their SQL go by the columns."""
    await on.sql("update view.sessions set host_dir = 'elsewhere', auth_token = 'known' where session_id = 'a-3'")
    ((row),) = (await prove(on, SESSIONS)).drift
    assert [(each.field, each.table, each.log) for each in row.differences] == [
        ("host_dir", "elsewhere", "w-a-3"),
        ("auth_token", "(not shown)", "(not shown)"),
    ]


async def test_the_row_says_which_field_and_both_values(on: Ground) -> None:
    await on.sql(
        """update view.sessions set state = convert_to(jsonb_set(convert_from(state, 'UTF8')::jsonb,
           '{phase}', '"ready"')::text, 'UTF8') where session_id = 'a-4'"""
    )
    ((row),) = (await prove(on, SESSIONS)).drift
    assert ("state.phase", "ready", "stopped") in [(each.field, each.table, each.log) for each in row.differences]


async def noted_differing(on: Ground) -> Any:
    return await on.sql("select differing from view.projection_proof where name = 'sessions'")


async def test_a_slow_comparison_does_not_write_over_a_newer_one(on: Ground) -> None:
    """Begun before the table was altered, it ends after another has found that: neither says what is not so."""
    newer = list[Proof]()
    original = on.store.read_log

    async def read_log(**named: Any) -> Any:
        if not newer:
            await on.sql("update view.sessions set port = 1 where session_id = 'a-3'")
            newer.append(await prove(on, SESSIONS))
        return await original(**named)

    told = Told()
    older = await Prover(_Reading(on.store, read_log), on.store.pool, tell=told.tell).prove(SESSIONS)
    assert (older.differing, newer[0].differing) == (0, 1)
    assert told.events == [older.event], "it was made all the same"
    assert await noted_differing(on) == 1
    assert older.verified_at < newer[0].verified_at
    await on.rebuild(SESSIONS)
    assert await noted_differing(on) == 0


async def test_a_clock_that_was_put_back_keeps_no_comparison_from_being_noted(on: Ground) -> None:
    await prove(on, SESSIONS)
    await on.sql("update view.projection_proof set verified_at = verified_at + interval '1 day'")
    await on.sql("update view.sessions set port = 1 where session_id = 'a-3'")
    await prove(on, SESSIONS)
    assert await noted_differing(on) == 1


async def test_it_is_proved_while_the_projector_goes_on(on: Ground) -> None:
    """The snapshot holds checkpoint and rows: what is written meanwhile is not looked at."""
    position = (await on.store.head()).position
    moved = asyncio.Event()
    wrote = list[asyncio.Task[None]]()

    async def move() -> None:
        await on.live(short(), sessions=2)
        await on.carry()
        moved.set()

    def watch(progress: Any) -> None:
        if not wrote:
            wrote.append(asyncio.ensure_future(move()))

    class Slow(Told):
        async def tell(self, event: ProjectionVerified) -> None:
            await moved.wait()
            await super().tell(event)

    proof = await prove(on, SESSIONS, Slow(), watch)
    await asyncio.gather(*wrote)
    assert (proof.position, proof.differing) == (position, 0)
    assert (await prove(on, SESSIONS)).position > position


async def test_a_rebuild_meanwhile_is_no_drift(on: Ground) -> None:
    """The snapshot does not see the rows that the new table was filled with: the proof begins anew on that one."""
    await on.sql("update view.sessions set port = 1")
    rebuilt = list[asyncio.Task[Any]]()
    seen = 0

    def watch(progress: Any) -> None:
        nonlocal seen
        seen += 1

    prover = Prover(on.store, on.store.pool, tell=Told().tell)
    original = on.store.read_log

    async def read_log(**named: Any) -> Any:
        if not rebuilt:
            rebuilt.append(asyncio.ensure_future(on.rebuild(SESSIONS)))
            await rebuilt[0]
        return await original(**named)

    object.__setattr__(prover, "_store", _Reading(on.store, read_log))
    proof = await prover.prove(SESSIONS, watch)
    assert (proof.differing, rebuilt[0].result().differing) == (0, proof.rows)
    assert seen >= 2


class _Reading:
    """A store whose reading of the log is another's."""

    def __init__(self, store: Any, read_log: Any) -> None:
        self._store, self.read_log = store, read_log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("delete from view.projection_checkpoint", "never made"),
        ("update view.projection_checkpoint set version = version + 1", "folds version"),
        ("update view.projection_checkpoint set event_id = gen_random_uuid()", "a log that is not this one"),
    ],
)
async def test_what_cannot_be_compared_is_refused_with_the_reason(on: Ground, change: str, reason: str) -> None:
    await on.sql(change)
    told = Told()
    with pytest.raises(RebuildRefused, match=reason):
        await prove(on, SESSIONS, told)
    assert told.events == []


async def test_without_the_right_to_temporary_tables_it_says_what_to_grant(on: Ground) -> None:
    async with connection(on.database.admin_dsn) as admin:
        name = await admin.fetchval("select current_database()")
        await admin.execute(f"revoke temporary on database {name} from public")
        try:
            with pytest.raises(RebuildRefused, match="grant temporary"):
                await prove(on, SESSIONS)
        finally:
            await admin.execute(f"grant temporary on database {name} to public")


async def test_rows_that_a_policy_hides_are_not_said_to_be_missing(on: Ground) -> None:
    await on.sql("alter table view.sessions enable row level security")
    try:
        told = Told()
        with pytest.raises(RebuildRefused, match=r"every row of view\.sessions, since row-level security"):
            await prove(on, SESSIONS, told)
        assert told.events == []
    finally:
        await on.sql("alter table view.sessions disable row level security")
    assert (await prove(on, SESSIONS)).differing == 0


async def test_pages_without_an_event_for_the_table_do_not_end_the_proof(
    on: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the log nothing but its first event concerns the table, and Postgres ends what is idle for too long."""
    monkeypatch.setattr(proof_module, "_PATIENT", proof_module._PATIENT.replace("60s", "300ms"))
    monkeypatch.setattr(follower, "PAGE", 20)
    monkeypatch.setattr(follower, "MOST", 20)
    original, pages = on.store.read_log, 0

    async def slowly(**named: Any) -> Any:
        nonlocal pages
        pages += 1
        await on.sql("select pg_sleep(0.1)")
        return await original(**named)

    prover = Prover(_Reading(on.store, slowly), on.store.pool, tell=Told().tell)
    assert (await prover.prove(API_KEYS)).differing == 0
    assert pages > 5


async def test_many_rows_are_counted_and_some_of_them_named(on: Ground) -> None:
    await on.sql(
        "insert into view.admission (name, version, seats, taken, state)"
        " select repeat('x', 200) || n, 1, 1, '{}', '{}' from generate_series(1, 1500) n"
    )
    proof = await prove(on, ADMISSION)
    assert (proof.differing, len(proof.drift), len(proof.event.examples)) == (1500, NAMED, EXAMPLES)
    assert max(map(len, proof.event.examples)) == 100
