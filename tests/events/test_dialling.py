"""Dialling: hosts one by one, each with its time; what each host's reason is; who follows a fail-over."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import msgspec
import pytest

from events import dialling
from events.database_url import Host, parse
from events.dialling import DIAL_SECONDS, Dialler, open_pool
from events.errors import StoreUnavailable
from events.postgres import PostgresEventStore
from events.settings import DatabaseSettings
from events.store import Appended
from tests import debian_postgres
from tests.debian_fixtures import DebianLog, log_on
from tests.debian_postgres import PASSWORD, free_port
from tests.event_fixtures import SMALL, connection, until
from tests.factories import new_stream, write
from tests.house import tree

pytestmark = pytest.mark.postgres
PLACE = "select inet_server_port()"
OUTAGE_SECONDS = 20.0  # 5 until an answer is given up, 2 for the frozen host; the rest is a slow machine


@contextmanager
def frozen_host() -> Iterator[str]:
    """Takes connections, says nothing: a machine that was stopped, or a full network."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"127.0.0.1:{silent.getsockname()[1]}"


@asynccontextmanager
async def dialled(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await Dialler(parse(url)).dial("test")
    try:
        yield opened
    finally:
        opened.terminate()


def here(log: DebianLog) -> str:
    return f"127.0.0.1:{log.server.port}"


async def test_a_frozen_first_host_costs_its_time_once(debian_log: DebianLog) -> None:
    """asyncpg's own dialling of several hosts never reaches the second one."""
    with frozen_host() as frozen:
        dialler = Dialler(parse(debian_log.url(frozen, here(debian_log))))
        for least, most in ((DIAL_SECONDS, DIAL_SECONDS + 0.5), (0, 0.5)):
            began = time.monotonic()
            opened = await dialler.dial("test")
            assert least <= time.monotonic() - began < most
            assert await opened.fetchval(PLACE) == debian_log.server.port
            opened.terminate()


async def test_a_closed_first_host_costs_nothing(debian_log: DebianLog) -> None:
    began = time.monotonic()
    async with dialled(debian_log.url(f"127.0.0.1:{free_port()}", here(debian_log))) as opened:
        assert await opened.fetchval(PLACE) == debian_log.server.port
    assert time.monotonic() - began < 0.5


async def test_a_name_that_no_resolver_takes_is_passed_over(debian_log: DebianLog) -> None:
    """Python raises for such a name what is neither an OSError nor Postgres's. Their URLs are refused: this is for
    what that overlooks."""
    url = parse(debian_log.url())
    odd = tuple(Host(name) for name in ("a..b", "a" * 64, "h\0x", "/tmp/h\0x", "\udcff"))
    opened = await Dialler(msgspec.structs.replace(url, hosts=(*odd, *url.hosts))).dial("test")
    assert await opened.fetchval(PLACE) == debian_log.server.port
    opened.terminate()
    with pytest.raises(StoreUnavailable) as caught:
        await Dialler(msgspec.structs.replace(url, hosts=odd)).dial("test")
    assert str(caught.value).count("; ") == len(odd) - 1 and PASSWORD not in str(caught.value)


async def test_all_hosts_away_are_listed_with_their_reasons(debian_log: DebianLog) -> None:
    """Whoever reads it sees at once which host to look at, and no password."""
    closed = free_port()
    async with connection(debian_log.admin_url) as admin:
        await admin.execute("alter role session_gateway set default_transaction_read_only = on")
    try:
        with frozen_host() as frozen, pytest.raises(StoreUnavailable) as caught:
            hosts = (frozen, f"127.0.0.1:{closed}", "nowhere.invalid", "%2Fnowhere", here(debian_log))
            await Dialler(parse(debian_log.url(*hosts))).dial("test")
    finally:
        async with connection(debian_log.admin_url) as admin:
            await admin.execute("alter role session_gateway reset default_transaction_read_only")
    assert str(caught.value) == (
        f"Postgres cannot be reached ({frozen}: no answer within 2 s; 127.0.0.1:{closed}: nothing listens there; "
        "nowhere.invalid:5432: no address is known for this name; /nowhere:5432: there is no such socket; "
        f"{here(debian_log)}: it takes no writes: a standby, or default_transaction_read_only is on)"
    )


async def test_a_refusal_says_what_the_server_said(debian_log: DebianLog) -> None:
    """Password, role and database; what was tried is not repeated."""
    server = here(debian_log)
    for url, told in {
        debian_log.url(password="wr0ng-secret"): "the server refuses the password of session_gateway",
        debian_log.url(user="nobody"): "the server refuses the password of nobody",
        f"postgresql://postgres@/none?host={debian_log.server.root}&port={debian_log.server.port}": (
            'the server refuses us: database "none" does not exist'
        ),
    }.items():
        with pytest.raises(StoreUnavailable) as caught:
            await Dialler(parse(url)).dial("test")
        place = server if "127.0.0.1" in url else f"{debian_log.server.root}:{debian_log.server.port}"
        assert str(caught.value) == f"Postgres cannot be reached ({place}: {told})"


async def test_what_is_no_postgres_is_told() -> None:
    """A port that somebody else serves."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    try:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match=f"{place}: (it closed the connection|.*[Cc]onnection)"):
            await Dialler(parse(f"postgresql://u:p@{place}/n?sslmode=disable")).dial("test")
    finally:
        server.close()
        await server.wait_closed()


async def test_a_server_that_takes_no_writes_will_do_where_any_will(debian_log: DebianLog) -> None:
    async with connection(debian_log.admin_url) as admin:
        await admin.execute("alter role session_gateway set default_transaction_read_only = on")
        try:
            async with dialled(debian_log.url(target_session_attrs="any")) as opened:
                assert await opened.fetchval("select 1") == 1
            with pytest.raises(StoreUnavailable, match="it takes no writes"):
                await Dialler(parse(debian_log.url(target_session_attrs="read-write"))).dial("test")
        finally:
            await admin.execute("alter role session_gateway reset default_transaction_read_only")


@pytest.mark.parametrize("form", ["IPv6", "socket", "encoded socket"])
async def test_a_host_is_an_address_of_either_family_or_a_socket(debian_log: DebianLog, form: str) -> None:
    server = debian_log.server
    if form == "IPv6" and not _has_ipv6():
        pytest.skip("NOT TESTED: this machine has no IPv6")
    place = {
        "IPv6": f"[::1]:{server.port}",
        "socket": "",
        "encoded socket": f"{str(server.root).replace('/', '%2F')}:{server.port}",
    }[form]
    url = debian_log.url(place) if place else debian_log.admin_url
    async with dialled(url) as opened:
        address = await opened.fetchval("select host(inet_server_addr())")
        assert address == ("::1" if form == "IPv6" else None)


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_every_connection_is_dialled_here() -> None:
    """Else one of them would hang on a frozen host, or prepare statements behind a pooler. The embedded server's own
    module asks it whether it is up, on its socket."""
    makes = re.compile(r"asyncpg\.(connect|create_pool)\(|asyncpg import.*(connect|create_pool)")
    found = {module.path for module in tree.product() if makes.search(module.text)}
    assert found == {"events/dialling.py", "events/embedded.py"}


async def test_store_follows_a_failover_and_loses_nothing() -> None:
    """A streaming standby is passed over until it is promoted; the demoted primary from then on. The writer learns it
    by an error, readers and the listener by their connections being dialled anew."""
    with debian_postgres.running() as primary:
        async with log_on(primary, "log") as log:
            with debian_postgres.standby_of(primary) as standby:
                url = log.url(f"127.0.0.1:{standby.port}", f"127.0.0.1:{primary.port}")
                store = await PostgresEventStore.connect(url, SMALL)
                try:
                    await _fail_over(store, log, standby)
                finally:
                    await store.close()


@pytest.mark.slow
async def test_store_leaves_a_leader_that_freezes() -> None:
    """A stopped machine keeps its connections and takes new ones: asyncpg alone waits as long as it is frozen."""
    with debian_postgres.running() as primary:
        async with log_on(primary, "log") as log:
            with debian_postgres.standby_of(primary) as standby:
                url = log.url(f"127.0.0.1:{primary.port}", f"127.0.0.1:{standby.port}")
                store = await PostgresEventStore.connect(url, SMALL)
                try:
                    await store.append(write(new_stream()))
                    await _is_copied(log)
                    with debian_postgres.frozen(primary):
                        await asyncio.to_thread(debian_postgres.promote, standby)
                        began = time.monotonic()
                        await until(lambda: _appends(store), OUTAGE_SECONDS)
                        print(f"outage after the promotion: {time.monotonic() - began:.1f} s")
                        assert len(await store.read_log()) == 2
                        await _is_woken(store, standby)
                finally:
                    await store.close()


async def _appends(store: PostgresEventStore) -> bool:
    try:
        return isinstance(await store.append(write(new_stream())), Appended)
    except StoreUnavailable:
        return False


async def _is_copied(log: DebianLog) -> None:
    async with connection(log.admin_url) as admin:
        wanted = await admin.fetchval("select pg_current_wal_lsn()")
        caught_up = "select bool_and(replay_lsn >= $1) and count(*) = 1 from pg_stat_replication"
        await until(lambda: admin.fetchval(caught_up, wanted))


async def _fail_over(store: PostgresEventStore, log: DebianLog, standby: debian_postgres.Server) -> None:
    streams = [new_stream() for _ in range(3)]
    assert await store.pool.fetchval(PLACE) == log.server.port
    await store.append(write(streams[0]))
    await _is_copied(log)
    async with connection(log.admin_url) as admin:
        await admin.execute("alter system set default_transaction_read_only = on")
        log.server.reload()
        await until(lambda: _demoted(log))
    await asyncio.to_thread(debian_postgres.promote, standby)
    try:
        assert isinstance(await store.append(write(streams[1])), Appended)
        assert [one.stream_id for one in await store.read_log()] == streams[:2]
        assert await store.pool.fetchval(PLACE) == standby.port
        await _is_woken(store, standby)
    finally:
        (log.server.data / "postgresql.auto.conf").write_text("")
        log.server.reload()
        await until(lambda: _promoted(log))


async def _demoted(log: DebianLog) -> bool:
    async with connection(log.admin_url) as asked:
        return bool(await asked.fetchval("show default_transaction_read_only") == "on")


async def _promoted(log: DebianLog) -> bool:
    return not await _demoted(log)


async def _is_woken(store: PostgresEventStore, server: debian_postgres.Server) -> None:
    """The listener is on ``server`` now."""
    async with connection(server.socket_url("log")) as admin:
        listening = "select count(*) = 1 from pg_stat_activity where application_name = 'session-gateway listener'"
        await until(lambda: admin.fetchval(f"{listening} and query like 'LISTEN%'"))
        waiting = asyncio.create_task(store.wait_beyond(10**9, 60))
        await until(lambda: _notify(admin, waiting))
        await waiting


async def _notify(admin: "asyncpg.Connection[asyncpg.Record]", waiting: "asyncio.Task[None]") -> bool:
    await admin.execute(f"select pg_notify('gateway_log', '{10**9 + 1}')")
    return waiting.done()


async def test_a_frozen_leader_is_left_for_the_next_host(
    debian_log: DebianLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool over several hosts: each new connection is dialled by us, so it reaches the one that answers."""
    monkeypatch.setattr(dialling, "DIAL_SECONDS", 0.3)
    with frozen_host() as frozen:
        dialler = Dialler(parse(debian_log.url(frozen, here(debian_log))))
        settings = DatabaseSettings(db_min_connections=3, db_max_connections=3)
        began = time.monotonic()
        pool = await open_pool(dialler, settings, command_timeout=5)
        try:
            assert time.monotonic() - began < 3
            assert pool.get_size() == 3
            await pool.expire_connections()
            assert await pool.fetchval(PLACE) == debian_log.server.port
        finally:
            pool.terminate()


@asynccontextmanager
async def pool_of(log: DebianLog, settings: DatabaseSettings) -> AsyncIterator[dialling.Pool]:
    pool = await open_pool(Dialler(parse(settings.dsn())), settings, command_timeout=5)
    try:
        yield pool
    finally:
        pool.terminate()


def by_parts(log: DebianLog, **more: int | float) -> DatabaseSettings:
    """DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD, the last two full of odd characters."""
    return DatabaseSettings(
        db_host="127.0.0.1",
        db_port=log.server.port,
        db_name=log.name,
        db_user="session_gateway",
        db_password=PASSWORD,
        **more,  # type: ignore[arg-type]  # numbers alone
    )


async def test_parts_lead_to_the_same_database_as_the_url(debian_log: DebianLog) -> None:
    for settings in (by_parts(debian_log), DatabaseSettings(database_url=debian_log.url())):
        assert settings.app_user == "session_gateway"
        async with dialled(settings.dsn()) as opened:
            place = await opened.fetchrow("select current_database() as name, current_user as me, inet_server_port()")
            assert place is not None and tuple(place) == (debian_log.name, "session_gateway", debian_log.server.port)


async def test_connections_are_as_many_as_the_settings_say(debian_log: DebianLog) -> None:
    """DB_MIN_CONNECTIONS at once, DB_MAX_CONNECTIONS at most; who comes later waits."""
    settings = by_parts(debian_log, db_min_connections=2, db_max_connections=3)
    async with pool_of(debian_log, settings) as pool, connection(debian_log.admin_url) as admin:
        ours = "select count(*) from pg_stat_activity where application_name = 'session-gateway' and datname = $1"
        assert await admin.fetchval(ours, debian_log.name) == 2
        taken = [await pool.acquire() for _ in range(3)]
        assert await admin.fetchval(ours, debian_log.name) == 3
        with pytest.raises(TimeoutError):
            await pool.acquire(timeout=0.1)
        for one in taken:
            await pool.release(one)


async def test_idle_connections_go_down_to_the_floor(debian_log: DebianLog) -> None:
    """DB_MAX_INACTIVE_LIFETIME, above DB_MIN_CONNECTIONS."""
    settings = by_parts(debian_log, db_min_connections=1, db_max_connections=3, db_max_inactive_lifetime=0.2)
    async with pool_of(debian_log, settings) as pool:
        taken = [await pool.acquire() for _ in range(3)]
        for one in taken:
            await pool.release(one)
        assert pool.get_size() == 3
        await until(lambda: _has(pool, 1))


async def _has(pool: dialling.Pool, size: int) -> bool:
    return pool.get_size() == size


async def test_a_connection_is_replaced_after_its_queries(debian_log: DebianLog) -> None:
    """DB_MAX_QUERIES: what a server process gathers is given back."""
    settings = by_parts(debian_log, db_min_connections=1, db_max_connections=1, db_max_queries=5)
    async with pool_of(debian_log, settings) as pool:
        pids = [await pool.fetchval("select pg_backend_pid()") for _ in range(20)]
    assert 3 <= len(set(pids)) < 20


@pytest.mark.parametrize(("cache", "kept"), [(-1, True), (5, True), (0, False)])
async def test_statements_are_kept_as_the_setting_says(debian_log: DebianLog, cache: int, kept: bool) -> None:
    """DB_STATEMENT_CACHE; a server without a pooler before it gets the default."""
    dialler = Dialler(parse(debian_log.url()), statement_cache=None if cache < 0 else cache)
    opened = await dialler.dial("test")
    try:
        await opened.fetchval("select 41 + $1::int", 1)
        named = await opened.fetchval("select count(*) > 0 from pg_prepared_statements where statement like '%41 +%'")
        assert (named, dialler.pooled) == (kept, False)
    finally:
        opened.terminate()
