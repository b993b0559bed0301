"""The contract of ``events.keyring.Keyring``, over memory, file and Postgres: one key a subject, gone when erased."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from events.errors import StoreUnavailable, UnreadableEvent
from events.ids import short
from events.jsonfile import JsonFileEventStore
from events.keyring import Keyring, MemoryKeyring
from events.keyring_file import FILE, FileKeyring
from events.keyring_postgres import PostgresKeyring
from events.postgres import PostgresEventStore
from events.sealing import Place, seal, unseal
from tests.event_fixtures import Backend, LogDatabase, connection, open_store

SECRET = b"s" * 32
PLACE = Place("session-s1", "session.requested", "owner")
RACER = """
import asyncio, sys
from events.keyring_postgres import PostgresKeyring
import asyncpg
async def main():
    async with asyncpg.create_pool(sys.argv[1], min_size=1, max_size=4) as pool:
        keyring = PostgresKeyring(pool, bytes.fromhex(sys.argv[2]))
        print("ready", flush=True)
        sys.stdin.readline()
        keys = await asyncio.gather(*(keyring.key_for(f"{sys.argv[3]}-{nth % 5}") for nth in range(20)))
        print(" ".join(key.id + ":" + key.secret.hex() for key in keys), flush=True)
asyncio.run(main())
"""


@pytest_asyncio.fixture
async def keyring(backend: Backend, tmp_path: Path) -> AsyncIterator[Keyring]:
    async with backend.opened() as store:
        match store:
            case PostgresEventStore():
                yield PostgresKeyring(store.pool, SECRET)
            case JsonFileEventStore():
                yield await FileKeyring.open(tmp_path / FILE, SECRET)
            case _:
                yield MemoryKeyring()


@pytest.fixture
def subject() -> str:
    """Somebody whom no other test knows, with a name that needs care everywhere."""
    return f"Ada O'Neil <ada@example.org> \U0001f600 {short()}"


async def test_subject_has_one_key(keyring: Keyring, subject: str) -> None:
    """Sealed fields of a person under two keys would outlive the erasure of one."""
    keys = await asyncio.gather(*(keyring.key_for(subject) for _ in range(10)))
    assert len({(key.id, key.secret) for key in keys}) == 1
    assert (await keyring.key_for(subject + "'s brother")).id != keys[0].id


async def test_keys_are_found_by_the_id_that_events_carry(keyring: Keyring, subject: str) -> None:
    key = await keyring.key_for(subject)
    other = await keyring.key_for(subject + "2")
    assert await keyring.keys([key.id, other.id, "sk_none", key.id]) == {key.id: key, other.id: other}
    assert await keyring.keys([]) == {}


async def test_erased_subject_has_no_key_any_more(keyring: Keyring, subject: str) -> None:
    key, other = await keyring.key_for(subject), await keyring.key_for(subject + "2")
    assert await keyring.erase(subject) == (key.id,)
    assert await keyring.keys([key.id, other.id]) == {other.id: other}
    assert await keyring.erase(subject) == ()
    assert await keyring.erase("somebody whom nobody knows") == ()


async def test_subject_who_comes_back_gets_another_key(keyring: Keyring, subject: str) -> None:
    """What was sealed before stays closed."""
    former = await keyring.key_for(subject)
    sealed = seal(former, "Ada", PLACE)
    await keyring.erase(subject)
    later = await keyring.key_for(subject)
    assert later.id != former.id
    with pytest.raises(UnreadableEvent):
        unseal(later, sealed, PLACE)


async def test_asking_for_a_key_makes_none(keyring: Keyring, subject: str) -> None:
    """Not for a stranger, and not after an erasure: who has a key then had it before."""
    assert await keyring.key_of(subject) is None
    key = await keyring.key_for(subject)
    assert await keyring.key_of(subject) == key
    await keyring.erase(subject)
    assert await keyring.key_of(subject) is None
    assert await keyring.keys([key.id]) == {}


async def test_a_forgotten_key_is_nobodys(keyring: Keyring, subject: str) -> None:
    """Also where it still lies, as in a table that was restored: nothing more is sealed with it."""
    key = await keyring.key_for(subject)
    keyring.forget([key.id])
    assert await keyring.key_of(subject) is None


async def test_forgetting_one_key_leaves_the_others(keyring: Keyring, subject: str) -> None:
    key, other = await keyring.key_for(subject), await keyring.key_for(subject + "2")
    keyring.forget([key.id, "sk_none"])
    assert await keyring.keys([other.id]) == {other.id: other}


async def test_a_destroyed_key_is_known_as_such(keyring: Keyring, subject: str) -> None:
    """Without asking where the keys lie: what it sealed shows as erased, also while nobody can be asked."""
    key, other = await keyring.key_for(subject), await keyring.key_for(subject + "2")
    await keyring.erase(subject)
    assert keyring.known([key.id, other.id]) == {key.id: None, other.id: other}


postgres = pytest.mark.postgres


@postgres
async def test_key_is_durable_before_it_is_used(pg_store: PostgresEventStore, subject: str) -> None:
    key = await PostgresKeyring(pg_store.pool, SECRET).key_for(subject)
    another_process = PostgresKeyring(pg_store.pool, SECRET)
    assert await another_process.keys([key.id]) == {key.id: key}
    assert await another_process.key_for(subject) == key


@postgres
async def test_key_that_another_process_destroyed_lives_until_it_is_forgotten(
    pg_store: PostgresEventStore, subject: str
) -> None:
    """``subject.erased`` tells every process; from then on the key is nowhere."""
    here, there = PostgresKeyring(pg_store.pool, SECRET), PostgresKeyring(pg_store.pool, SECRET)
    key = await here.key_for(subject)
    erased = await there.erase(subject)
    here.forget(erased)
    assert await here.keys([key.id]) == {}
    assert (await here.key_for(subject)).id != key.id


@postgres
async def test_no_process_brings_a_key_back_by_asking(pg_store: PostgresEventStore, subject: str) -> None:
    here, there, late = (PostgresKeyring(pg_store.pool, SECRET) for _ in range(3))
    key = await here.key_for(subject)
    here.forget(await there.erase(subject))
    assert [await each.key_of(subject) for each in (here, there, late)] == [None, None, None]
    assert await late.keys([key.id]) == {}
    again = await there.key_for(subject)
    assert await there.key_of(subject) == again, "a key that it made since"


@postgres
async def test_an_erasure_is_remembered_while_the_keys_are_away(pg_store: PostgresEventStore, subject: str) -> None:
    """What a session does after it is told of all the same, and not kept waiting for a key that will not come."""
    away = False
    here = PostgresKeyring(pg_store.pool, SECRET, away=lambda: away)
    here.forget([(await here.key_for(subject)).id])
    away = True
    assert await here.key_of(subject) is None
    with pytest.raises(StoreUnavailable):
        await here.key_of(subject + "2")


@postgres
async def test_table_shows_neither_names_nor_keys(
    shared_log: LogDatabase, pg_store: PostgresEventStore, subject: str
) -> None:
    """A dump of the database alone opens nothing and names nobody."""
    key = await PostgresKeyring(pg_store.pool, SECRET).key_for(subject)
    async with connection(shared_log.admin_dsn) as admin:
        row = await admin.fetchrow("select * from view.subject_key where key_id = $1", key.id)
    assert row is not None
    stored = row["subject"] + row["wrapped"]
    assert key.secret not in stored and subject.encode() not in stored


@postgres
async def test_another_sealing_secret_is_refused_at_once(empty_log: LogDatabase) -> None:
    """Each call: a gateway with the wrong secret would give a known subject a second key, or erase nobody."""
    async with open_store(empty_log.app_dsn) as store:
        key = await PostgresKeyring(store.pool, SECRET).key_for("ada")
        with pytest.raises(UnreadableEvent, match="sealing secret"):
            await PostgresKeyring(store.pool, b"t" * 32).keys([key.id])
        with pytest.raises(UnreadableEvent, match="sealing secret"):
            await PostgresKeyring(store.pool, b"t" * 32).key_for("ada")
        with pytest.raises(UnreadableEvent, match="sealing secret"):
            await PostgresKeyring(store.pool, b"t" * 32).erase("ada")
        assert await PostgresKeyring(store.pool, SECRET).keys([key.id]) == {key.id: key}


@postgres
async def test_keys_that_cannot_be_reached_are_the_stores_fault(shared_log: LogDatabase) -> None:
    async with open_store(shared_log.app_dsn) as store:
        keyring = PostgresKeyring(store.pool, SECRET)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await keyring.key_for("ada")


@postgres
async def test_cached_keys_serve_while_the_log_is_away(pg_store: PostgresEventStore, subject: str) -> None:
    """The table is where the log is: what is not cached is unavailable at once, and not after a time-out."""
    away = False
    keyring = PostgresKeyring(pg_store.pool, SECRET, away=lambda: away)
    key = await keyring.key_for(subject)
    away = True
    assert await keyring.key_for(subject) == key
    assert await keyring.keys([key.id]) == {key.id: key}
    for ask in (keyring.key_for("somebody else"), keyring.keys(["unknown"]), keyring.erase(subject)):
        with pytest.raises(StoreUnavailable):
            await ask
    away = False
    assert await keyring.erase(subject) == (key.id,)


@postgres
async def test_a_key_that_was_fetched_by_its_id_is_found_by_its_subject(
    pg_store: PostgresEventStore, subject: str
) -> None:
    """What is fetched ahead of an outage is known by id; a stop by the session's own owner is sealed by the name."""
    away = False
    key = await PostgresKeyring(pg_store.pool, SECRET).key_for(subject)
    another_process = PostgresKeyring(pg_store.pool, SECRET, away=lambda: away)
    assert await another_process.keys([key.id]) == {key.id: key}
    away = True
    assert await another_process.key_for(subject) == key
    another_process.forget([key.id])
    with pytest.raises(StoreUnavailable):
        await another_process.key_for(subject)


@postgres
async def test_nobody_is_asked_for_a_key_that_is_known_to_be_destroyed(pg_store: PostgresEventStore) -> None:
    """A session that outlives its subject is served on while the log is away; of other ids nothing can be told."""
    keyring = PostgresKeyring(pg_store.pool, SECRET, away=lambda: True)
    keyring.forget(["sk_gone"])
    assert await keyring.keys(["sk_gone"]) == {}
    assert keyring.known(["sk_gone", "sk_never_seen"]) == {"sk_gone": None}


@postgres
async def test_keys_on_a_frozen_server_are_given_up_after_one_time_out(
    pg_store: PostgresEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask for the few connections, each waits once; and the reason is never empty."""
    monkeypatch.setattr("events.keyring_postgres.COMMAND_SECONDS", 0.3)
    keyring = PostgresKeyring(pg_store.pool, SECRET)
    async with AsyncExitStack() as stack:
        for _ in range(pg_store.pool.get_max_size()):
            await stack.enter_async_context(pg_store.pool.acquire())
        asked = await asyncio.wait_for(
            asyncio.gather(*(keyring.keys([f"sk_{nth}"]) for nth in range(40)), return_exceptions=True), 3
        )
    assert {str(each) for each in asked} == {"the subject keys cannot be reached: TimeoutError"}


@postgres
async def test_an_answer_under_way_brings_no_destroyed_key_back(
    pg_store: PostgresEventStore, subject: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read before it was destroyed, arrived after that was told: the copy would open what was erased."""
    key = await PostgresKeyring(pg_store.pool, SECRET).key_for(subject)
    keyring = PostgresKeyring(pg_store.pool, SECRET)
    fetch = keyring._fetch

    async def slow(query: str, *arguments: object) -> Any:
        rows = await fetch(query, *arguments)
        keyring.forget([key.id])
        return rows

    monkeypatch.setattr(keyring, "_fetch", slow)
    assert await keyring.keys([key.id]) == {}


@postgres
async def test_processes_that_race_for_a_subject_get_one_key(shared_log: LogDatabase, subject: str) -> None:
    """Two gateways meet the same new person at the same moment."""
    command = [sys.executable, "-c", RACER, shared_log.app_dsn, SECRET.hex(), subject]
    async with AsyncExitStack() as stack:
        racers = []
        for _ in range(2):
            racer = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            stack.push_async_callback(racer.wait)
            racers.append(racer)
        assert all([await _line(racer) == "ready" for racer in racers])
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(b"\n")
        one, two = [(await _line(racer)).split() for racer in racers]
    assert one == two
    assert len(set(one)) == 5


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
