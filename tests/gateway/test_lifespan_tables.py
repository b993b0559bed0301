"""A gateway on Postgres keeps the tables behind its log, says how far they are, and starts from them."""

from pathlib import Path

import pytest

from gateway import telemetry
from gateway.metrics import watch_tables
from gateway.storage import open_storage
from projections.tables import TABLES
from tests.event_fixtures import LogDatabase, connection, until
from tests.gateway import receivers
from tests.gateway_fixtures import Gateway, start_gateway


@pytest.mark.postgres
async def test_tables_follow_the_log_and_the_next_process_starts_from_them(
    tmp_path: Path, empty_log: LogDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"DATABASE_URL": empty_log.app_dsn, "DB_ADMIN_URL": empty_log.admin_dsn}
    async with start_gateway(tmp_path, settings, log_of=open_storage, keep=True) as gateway:
        session = await gateway.open()
        await until(lambda: _caught_up(gateway))
        projector = gateway.services.projector
        assert projector is not None and set(projector.positions) == {table.name for table in TABLES}
        async with connection(empty_log.app_dsn) as app:
            query = "select status from view.sessions where session_id = $1"
            assert await app.fetchval(query, session.session_id) == "running"
            reached = gateway.services.views.position
    async with connection(empty_log.app_dsn) as app:
        assert not await app.fetchval("select count(*) from view.lease where expires_at > clock_timestamp()")
    caplog.clear()
    async with start_gateway(tmp_path, settings, log_of=open_storage) as again:
        assert session.session_id in again.services.views.sessions
        assert "the first event" not in caplog.text and again.services.views.position > reached


async def _caught_up(gateway: Gateway) -> bool:
    """As an operator sees it."""
    figures = (await gateway.client.get("/health")).json()["log"]
    return figures["tables"] is not None and figures["tables"] >= figures["head"] > 0


@pytest.mark.postgres
async def test_health_tells_of_the_last_proof_of_each_table(tmp_path: Path, empty_log: LogDatabase) -> None:
    settings = {"DATABASE_URL": empty_log.app_dsn, "DB_ADMIN_URL": empty_log.admin_dsn}
    async with connection(empty_log.app_dsn) as app:
        await app.execute(
            "insert into view.projection_proof (name, version, position, rows, differing, missing)"
            " values ('sessions', 1, 2, 3, 4, 4)"
        )
    async with start_gateway(tmp_path, settings, log_of=open_storage) as gateway:

        async def told() -> bool:
            proofs = (await gateway.client.get("/health")).json()["log"]["proofs"]
            return {name: (one["differing"], one["missing"]) for name, one in proofs.items()} == {"sessions": (4, 4)}

        await until(told)


async def test_a_log_without_tables_has_none(gateway: Gateway) -> None:
    assert gateway.services.projector is None
    log = (await gateway.client.get("/health")).json()["log"]
    assert (log["tables"], log["proofs"]) == (None, None)


async def test_the_lag_of_each_table_is_told_by_its_holder() -> None:
    positions = {"sessions": 7}
    async with receivers.otlp() as (endpoint, receiver), receivers.delivering(endpoint, otel_metric_export_interval=20):
        watch_tables(telemetry.meter(), "g1", lambda: positions, lambda: 10)
        told = await receivers.gauge(receiver, "session_gateway.projection.lag", 3)
        assert told == {"gateway.instance": "g1", "projection": "sessions"}
        positions["sessions"] = 12  # it may have read on since the views have
        await receivers.gauge(receiver, "session_gateway.projection.lag", 0)
