"""TLS to a real Postgres: who is let in, and for each failure the sentence that says whose fault it is."""

import datetime as dt
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest
import pytest_asyncio

from docker.certs import Authority
from events.database_tls import client_context
from events.database_url import BadDatabaseUrl, Host, Tls, parse
from events.dialling import Dialler
from events.errors import StoreUnavailable
from events.postgres import PostgresEventStore
from gateway.settings import load
from gateway.storage import IN_CLEAR, open_storage
from tests.debian_fixtures import DebianLog
from tests.debian_postgres import PASSWORD, Server, put
from tests.event_fixtures import SMALL, connection, until
from tests.factories import new_stream, write

pytestmark = pytest.mark.postgres
LONG_AGO: Final = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
AUTHORITY: Final = Authority(days=2)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A log on a server with TLS, and the file with the authority that signed for it."""

    log: DebianLog
    ca: Path
    folder: Path

    def url(self, host: str = "127.0.0.1", **options: str) -> str:
        user = options.pop("user", "session_gateway")
        return self.log.url(f"{host}:{self.log.server.port}", user=user, **options)


@pytest_asyncio.fixture
async def shown(debian_log: DebianLog, tmp_path: Path) -> AsyncIterator[Shown]:
    """A server that shows a certificate for 127.0.0.1, of AUTHORITY."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(AUTHORITY.certificate)
    async with _showing(debian_log.server, *AUTHORITY.server(["127.0.0.1"])):
        yield Shown(log=debian_log, ca=ca, folder=tmp_path)


@asynccontextmanager
async def _showing(
    server: Server, certificate: bytes, key: bytes, more: Mapping[str, str] | None = None
) -> AsyncIterator[None]:
    """Give the server a certificate; afterwards it has no TLS again."""
    put(server.data / "server.crt", certificate)
    put(server.data / "server.key", key)
    put(server.data / "clients.pem", AUTHORITY.certificate)
    try:
        await _configure(server, {"ssl": "on", "ssl_ca_file": "clients.pem", **(more or {})})
        yield
    finally:
        await _configure(server, {"ssl": "off"})


async def _configure(server: Server, settings: dict[str, str]) -> None:
    """In force for whoever connects from here on."""
    token = new_stream()
    put(
        server.data / "postgresql.auto.conf",
        "".join(f"{name} = '{value}'\n" for name, value in {**settings, "test.token": token}.items()),
    )
    server.reload()

    async def in_force() -> bool:
        async with connection(server.socket_url()) as asked:
            return bool(await asked.fetchval("select current_setting('test.token', true)") == token)

    await until(in_force)


async def _encrypted(url: str) -> str | None:
    """The protocol that a connection to ``url`` speaks, None for plain text."""
    dialled = await Dialler(parse(url)).dial("test")
    try:
        version = await dialled.fetchval("select version from pg_stat_ssl where pid = pg_backend_pid()")
        return None if version is None else str(version)
    finally:
        dialled.terminate()


async def _refused(url: str) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await _encrypted(url)
    assert PASSWORD not in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_log_is_kept_over_verified_tls_with_a_password(shown: Shown) -> None:
    """verify-full and scram together, for writing, reading and listening."""
    url = shown.url(sslmode="verify-full", sslrootcert=str(shown.ca))
    store = await PostgresEventStore.connect(url, SMALL)
    try:
        stream = new_stream()
        await store.append(write(stream))
        assert len(await store.read_stream(stream)) == 1
        async with connection(shown.log.admin_url) as admin:
            ours = "select bool_and(ssl) and count(*) >= 3 from pg_stat_ssl join pg_stat_activity using (pid)"
            await until(lambda: admin.fetchval(f"{ours} where application_name like 'session-gateway%'"))
    finally:
        await store.close()


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_every_mode_but_disable_encrypts(shown: Shown, mode: str) -> None:
    options = {"sslrootcert": str(shown.ca)} if mode.startswith("verify") else {}
    assert await _encrypted(shown.url(sslmode=mode, **options)) == "TLSv1.3"
    assert await _encrypted(shown.url(sslmode="disable")) is None


async def test_tls_below_1_2_is_never_spoken(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where libpq's own variable allows it: asyncpg would read that."""
    assert client_context(Tls(mode="require")).minimum_version.name == "TLSv1_2"
    monkeypatch.setenv("PGSSLMINPROTOCOLVERSION", "TLSv1")
    assert await _encrypted(shown.url(sslmode="prefer")) == "TLSv1.3"
    old = {"ssl_min_protocol_version": "TLSv1.1", "ssl_max_protocol_version": "TLSv1.1"}
    async with _showing(shown.log.server, *AUTHORITY.server(["127.0.0.1"]), old):
        assert await _refused(shown.url(sslmode="require"))
        assert await _encrypted(shown.url(sslmode="prefer")) is None


async def test_another_name_is_told(shown: Shown) -> None:
    """The certificate is for 127.0.0.1; verify-ca does not ask."""
    url = {"sslrootcert": str(shown.ca)}
    told = await _refused(shown.url("localhost", sslmode="verify-full", **url))
    assert "the server shows a certificate that is for another name" in told
    assert await _encrypted(shown.url("localhost", sslmode="verify-ca", **url))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_another_authority_is_told(shown: Shown, mode: str) -> None:
    other = shown.folder / "other.pem"
    other.write_bytes(Authority(days=2).certificate)
    told = await _refused(shown.url(sslmode=mode, sslrootcert=str(other)))
    assert f"the server shows a certificate of no authority that is in sslrootcert {other}" in told


async def test_an_authority_that_only_this_machine_trusts_is_told(shown: Shown) -> None:
    told = await _refused(shown.url(sslmode="verify-full", sslrootcert="system"))
    assert "the server shows a certificate of no authority that this machine trusts" in told


async def test_an_expired_certificate_is_told(shown: Shown) -> None:
    old = Authority(days=30, now=LONG_AGO)
    shown.ca.write_bytes(old.certificate)
    async with _showing(shown.log.server, *old.server(["127.0.0.1"])):
        told = await _refused(shown.url(sslmode="verify-full", sslrootcert=str(shown.ca)))
    assert "the server shows a certificate that has expired" in told


async def test_a_certificate_of_the_future_is_told(shown: Shown) -> None:
    """A machine whose clock starts in 1970 sees every certificate so."""
    ahead = Authority(days=30, now=dt.datetime.now(dt.UTC) + dt.timedelta(days=9))
    shown.ca.write_bytes(ahead.certificate)
    async with _showing(shown.log.server, *ahead.server(["127.0.0.1"])):
        told = await _refused(shown.url(sslmode="verify-full", sslrootcert=str(shown.ca)))
    assert "not valid yet, or our clock is behind" in told


@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_a_server_without_tls_is_told(debian_log: DebianLog, tmp_path: Path, mode: str) -> None:
    """Plain text is never the way out when TLS was asked for; "prefer" takes it."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(AUTHORITY.certificate)
    options = {"sslrootcert": str(ca)} if mode == "verify-full" else {}
    told = await _refused(debian_log.url(sslmode=mode, **options))
    assert f"the server speaks no TLS, and sslmode={mode} asks for it" in told
    assert await _encrypted(debian_log.url(sslmode="prefer")) is None


FAR: Final = "127.1"  # leads here; by its name alone nobody knows


async def test_a_host_that_is_reached_in_clear_is_known(shown: Shown) -> None:
    """Not by the mode that was asked for but by what was agreed: "prefer" is either. What stays here is not meant."""
    far = Host(FAR, shown.log.server.port)
    for host, mode, in_clear in (
        (FAR, "disable", [far]),
        (FAR, "prefer", []),
        (FAR, "require", []),
        ("127.0.0.1", "disable", []),
    ):
        dialler = Dialler(parse(shown.url(host, sslmode=mode)))
        (await dialler.dial("test")).terminate()
        assert dialler.in_clear == in_clear, (host, mode)
    dialler = Dialler(parse(shown.url(FAR, sslmode="prefer")))
    await _configure(shown.log.server, {"ssl": "off"})
    (await dialler.dial("test")).terminate()
    assert dialler.in_clear == [far]


async def test_whoever_starts_the_gateway_is_told_of_traffic_in_clear(debian_log: DebianLog, tmp_path: Path) -> None:
    """Once for all connections, with the host; nothing on the way, no password."""
    for host, notes in ((FAR, [f"{FAR}:{debian_log.server.port}"]), ("127.0.0.1", [])):
        url = debian_log.url(f"{host}:{debian_log.server.port}")
        given = {"GATEWAY_DATA_DIR": str(tmp_path), "DATABASE_URL": url, "DB_MAX_CONNECTIONS": "5"}
        async with open_storage(load(given)) as storage:
            assert list(storage.notes) == [IN_CLEAR.format(hosts=each) for each in notes]


async def test_a_server_that_insists_on_tls_is_told(shown: Shown) -> None:
    told = await _refused(shown.url(user="tls_only", sslmode="disable"))
    assert "the server refuses us: pg_hba.conf rejects connection" in told and "no encryption" in told


async def test_our_own_certificate_is_shown_where_it_is_wanted(shown: Shown) -> None:
    """Beside the password. Without one, or with a stranger's, the sentence says that it is ours that fails."""
    verified = {"user": "certified", "sslmode": "verify-full", "sslrootcert": str(shown.ca)}
    assert await _encrypted(shown.url(**verified, **_own(shown, AUTHORITY)))
    assert await _encrypted(shown.url(user="certified", sslmode="prefer", **_own(shown, AUTHORITY)))
    assert "requires a valid client certificate" in await _refused(shown.url(**verified))
    told = await _refused(shown.url(**verified, **_own(shown, Authority(days=2))))
    assert re.search("the server does not trust our certificate's authority|does it trust sslcert", told), told


def _own(shown: Shown, authority: Authority) -> dict[str, str]:
    certificate, key = authority.client()
    paths = {"sslcert": shown.folder / "own.pem", "sslkey": shown.folder / "own-key.pem"}
    paths["sslcert"].write_bytes(certificate)
    paths["sslkey"].write_bytes(key)
    return {name: str(path) for name, path in paths.items()}


async def test_a_renewed_authority_needs_no_new_start(shown: Shown) -> None:
    """Files are read for each connection."""
    trusted = shown.ca.read_bytes()
    dialler = Dialler(parse(shown.url(sslmode="verify-full", sslrootcert=str(shown.ca))))
    shown.ca.write_bytes(Authority(days=2).certificate)
    with pytest.raises(StoreUnavailable):
        await dialler.dial("test")
    shown.ca.write_bytes(trusted)
    (await dialler.dial("test")).terminate()


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "no such file or directory"), (b"", "it holds no certificate"), (b"no pem", "it holds no certificate")],
)
def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadDatabaseUrl) as caught:
        client_context(Tls(mode="verify-full", authority=str(path)))
    assert str(caught.value) == f"has sslrootcert {path}, which cannot be used: {told}"


def test_a_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(AUTHORITY.client()[0])
    key.write_bytes(AUTHORITY.client()[1])
    with pytest.raises(BadDatabaseUrl, match="do not belong together"):
        client_context(Tls(mode="require", certificate=str(certificate), key=str(key)))
