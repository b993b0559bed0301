"""A rebuild refuses while the table has what the one in its place would not: nobody loses a policy without a word."""

from typing import Any

import pytest

from events.ids import short
from projections import projector, rebuild_store
from projections.errors import WouldLose
from projections.tables import TOKENS
from tests.event_fixtures import until
from tests.projections.rebuilding import Ground
from tests.projections.rebuilding import database as database
from tests.projections.rebuilding import on as on

pytestmark = pytest.mark.postgres


LOSSES = [
    (
        "alter table view.tokens enable row level security",
        "alter table view.tokens disable row level security",
        "row-level security",
    ),
    (
        "create policy own on view.tokens using (true)",
        "drop policy own on view.tokens",
        "policy own on table view.tokens",
    ),
    (
        "create trigger seen before update on view.tokens"
        " for each row execute function suppress_redundant_updates_trigger()",
        "drop trigger seen on view.tokens",
        "trigger seen on table view.tokens",
    ),
    (
        "create rule also as on delete to view.tokens do also select 1",
        "drop rule also on view.tokens",
        "rule also on table view.tokens",
    ),
    ("create publication replica for table view.tokens", "drop publication replica", "publication replica"),
    (
        "create table public.kept (token text references view.tokens (token))",
        "drop table public.kept",
        "constraint kept_token_fkey on table public.kept",
    ),
    ("create table public.older () inherits (view.tokens)", "drop table public.older", "inheritance with public.older"),
    ("create view public.mine as select session_id from view.tokens", "drop view public.mine", "view public.mine"),
    (
        "create materialized view public.mine as select session_id from view.tokens",
        "drop materialized view public.mine",
        "materialized view public.mine",
    ),
    (
        "create function public.mine() returns bigint begin atomic select count(*) from view.tokens; end",
        "drop function public.mine()",
        "function public.mine()",
    ),
]


@pytest.mark.parametrize(("make", "undo", "named"), LOSSES, ids=[named for _, _, named in LOSSES])
async def test_what_the_new_table_would_not_have_refuses_the_rebuild(
    on: Ground, make: str, undo: str, named: str
) -> None:
    """A policy that went with the former table would show all of its rows to whoever it kept out."""
    await on.sql(make)
    try:
        with pytest.raises(WouldLose) as refused:
            await on.rebuild(TOKENS)
        assert named in refused.value.what.split("; ")
        assert on.steps == [] and await on.left() == []
    finally:
        await on.sql(undo)
    assert (await on.rebuild(TOKENS)).differing == 0


async def test_what_was_made_on_the_table_while_it_was_built_is_seen_at_the_exchange(on: Ground) -> None:
    before = await on.sql("select 'view.tokens'::regclass::oid")

    async def check(rows: rebuild_store.RebuildStore) -> None:
        pass

    for make, undo, named in LOSSES[1], LOSSES[7]:
        await on.killed_at(TOKENS, "caught_up")
        await on.sql(make)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(rebuild_store.RebuildStore, "check", check)
            with pytest.raises(WouldLose, match=named):
                await on.rebuild(TOKENS)
        assert await on.sql("select 'view.tokens'::regclass::oid") == before
        await on.sql(undo)


async def test_what_the_projector_cannot_exchange_is_told_once_and_keeps_no_other(
    on: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After an upgrade, of two tables to be made: the other one is made, and carried on, all the same."""
    tries = 0

    async def counted(rows: rebuild_store.RebuildStore, of: Any = rebuild_store.RebuildStore.check) -> None:
        nonlocal tries
        tries += 1
        await of(rows)

    monkeypatch.setattr(rebuild_store.RebuildStore, "check", counted)
    monkeypatch.setattr(projector, "MAKE_SECONDS", 0.01)
    await on.sql("update view.projection_checkpoint set version = 0 where name in ('sessions', 'tokens')")
    await on.sql("create view public.mine as select session_id from view.sessions")
    on.projector._make = on.rebuilder().make
    await on.projector.close()

    async def carried(name: str) -> bool:
        await on.carry()
        head = (await on.store.head()).position
        position = f"select position from view.projection_checkpoint where name = '{name}' and version > 0"
        return bool(await on.sql(position) == head)

    await until(lambda: carried("tokens"))
    await on.live(short(), sessions=1)
    await until(lambda: carried("tokens"))

    async def tried() -> bool:
        return tries >= 4

    await until(tried)
    assert [done.projection for _, done in on.told] == ["tokens"]
    assert caplog.text.count("a table stays as it is: The table view.sessions has") == 1
    await on.sql("drop view public.mine")
    await until(lambda: carried("sessions"))
    assert [(done.projection, done.reason) for _, done in on.told] == [("tokens", "version"), ("sessions", "version")]


async def test_a_row_that_is_refused_keeps_no_other_table_from_being_made(
    on: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    await on.sql("update view.projection_checkpoint set version = 0 where name = 'tokens'")
    await on.sql("alter table view.tokens add constraint never check (false) not valid")
    try:
        assert not await on.rebuilder().make(TOKENS)
        assert "a table stays as it is: Postgres refuses a row of the table tokens" in caplog.text
    finally:
        await on.sql("alter table view.tokens drop constraint never")
    assert await on.rebuilder().make(TOKENS)
