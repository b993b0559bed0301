"""Projection lines: what a person is told of tables."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.cli.projection_lines import show_report
from projections.table_report import Holder, Rebuild, Report, TableReport

AT = datetime(2026, 3, 2, 3, 0, tzinfo=UTC)
ONE = TableReport(
    name="sessions",
    version=4,
    table_version=4,
    position=9,
    lag=1,
    rows=5,
    rows_exact=True,
    updated_at=AT,
    rebuild=None,
    proved=None,
)


def shown(capsys: pytest.CaptureFixture[str], *tables: TableReport, projector: Holder | None = None) -> list[str]:
    show_report(Report(source="tables", log_id="l1", head=10, projector=projector, projections=tables))
    return capsys.readouterr().out.splitlines()


def test_an_estimate_is_marked_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, msgspec.structs.replace(ONE, rows=1200000, rows_exact=False), projector=Holder("gw-1", AT))
    assert lines[1].split()[:5] == ["sessions", "4", "9", "1", "~1200000"]
    assert lines[2:] == [
        "~: as Postgres estimates it; --exact counts.",
        "The log l1 ends at position 10.",
        "gw-1 carries the tables on.",
    ]
    assert not any("~" in line for line in shown(capsys, ONE))


def test_who_rebuilds_is_told_with_when_that_is_known_to_be_over(capsys: pytest.CaptureFixture[str]) -> None:
    """A killed process looks alive until its lease runs out."""
    under_way = Rebuild(
        version=5, position=3, reason="asked", started_at=AT, holder="gw-1", expires_at=AT + timedelta(seconds=15)
    )
    made = msgspec.structs.replace(ONE, rebuild=under_way, version=5)
    (line,) = shown(capsys, made)[1:2]
    assert "4 (code: 5)" in line and "at 3, by gw-1, until 2026-03-02 " in line and line.endswith(" or longer")
    stopped = msgspec.structs.replace(made, rebuild=msgspec.structs.replace(under_way, holder=None, expires_at=None))
    assert shown(capsys, stopped)[1].endswith("at 3, interrupted")


def test_a_table_that_was_never_made_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, msgspec.structs.replace(ONE, table_version=None, updated_at=None))
    assert "never made" in lines[1] and lines[-1] == "No gateway carries the tables on."
