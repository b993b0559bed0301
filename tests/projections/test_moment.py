"""How people write "then": one instant or none, and a refusal that says what would be one."""

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import moment
from projections.moment import BadMoment, Fold

BERLIN = moment.zone("Europe/Berlin")
TWICE = "2026-10-25T02:30:00"  # set back from 03:00+02:00 to 02:00+01:00
NEVER = "2026-03-29T02:30:00"  # set on from 02:00+01:00 to 03:00+02:00


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2026-01-18T23:31:04+01:00", "2026-01-18T22:31:04+00:00"),
        ("2026-01-18T23:31+01:00", "2026-01-18T22:31:00+00:00"),
        ("2026-01-18 22:31:04.25z", "2026-01-18T22:31:04.250000+00:00"),
        ("2026-01-18T22:31:04.123456789Z", "2026-01-18T22:31:04.123456+00:00"),
        ("2026-01-18T22:31:04-00:00", "2026-01-18T22:31:04+00:00"),
    ],
)
def test_a_time_with_an_offset_needs_no_zone(text: str, means: str) -> None:
    """And keeps its own when a zone is given beside: the offset was written by somebody who knew."""
    assert moment.parse(text) == moment.parse(text, BERLIN) == instant(means)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2026-01-18T12:00:00", "2026-01-18T12:00:00+01:00"),
        ("2026-07-18 12:00", "2026-07-18T12:00:00+02:00"),
        ("2026-03-29T01:59:59.999999", "2026-03-29T01:59:59.999999+01:00"),
        ("2026-03-29T03:00:00", "2026-03-29T03:00:00+02:00"),
        ("2026-10-25T01:59:59", "2026-10-25T01:59:59+02:00"),
        ("2026-10-25T03:00:00", "2026-10-25T03:00:00+01:00"),
    ],
)
def test_a_local_time_is_one_of_the_zone(text: str, means: str) -> None:
    assert moment.parse(text, BERLIN) == instant(means)
    assert moment.parse(text, BERLIN, "second") == instant(means), "there is nothing to choose"


@pytest.mark.parametrize(("fold", "offset"), [("first", "+02:00"), ("second", "+01:00")])
@pytest.mark.parametrize("minute", ["02:00:00", "02:30:00", "02:59:59"])
def test_each_of_the_repeated_hours_can_be_meant(minute: str, fold: Fold, offset: str) -> None:
    """By choosing, or by the offset; without either both instants are named and nobody guesses."""
    local = f"2026-10-25T{minute}"
    assert moment.parse(local, BERLIN, fold) == moment.parse(local + offset, BERLIN) == instant(local + offset)
    with pytest.raises(BadMoment, match="twice in Europe/Berlin") as refused:
        moment.parse(local, BERLIN)
    assert f"{local}+02:00 and {local}+01:00" in str(refused.value)


@pytest.mark.parametrize("fold", [None, "first", "second"])
def test_a_time_that_the_clock_never_showed_is_refused_with_what_is_near(fold: Fold | None) -> None:
    for minute in ("02:00:00", "02:30:00.5", "02:59:59.999999"):
        with pytest.raises(BadMoment, match="never was in Europe/Berlin") as refused:
            moment.parse(f"2026-03-29T{minute}", BERLIN, fold)
        assert "from 2026-03-29T01:59:59+01:00 on to 2026-03-29T03:00:00+02:00" in str(refused.value)


def test_a_day_that_was_left_out_and_half_an_hour_that_came_twice() -> None:
    """Zones do not only change by the hour: Samoa left out a day, Lord Howe sets its clocks by half an hour."""
    with pytest.raises(BadMoment, match=r"2011-12-29T23:59:59-10:00 on to 2011-12-31T00:00:00\+14:00"):
        moment.parse("2011-12-30T12:00:00", moment.zone("Pacific/Apia"))
    with pytest.raises(BadMoment, match=r"2026-04-05T01:45:00\+11:00 and 2026-04-05T01:45:00\+10:30"):
        moment.parse("2026-04-05T01:45:00", moment.zone("Australia/Lord_Howe"))


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]),
)
def test_every_instant_can_be_written_as_the_zones_clock_showed_it(naive: datetime, name: str) -> None:
    """There and back, for each instant of two centuries; in the repeated hour by saying which."""
    zone, then = moment.zone(name), naive.replace(tzinfo=UTC)
    shown = then.astimezone(zone)
    fold: Fold = "second" if shown.fold else "first"
    assert moment.parse(shown.replace(tzinfo=None).isoformat(), zone, fold) == then


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TWICE, "needs an offset"),
        ("2026-01-18T24:00:00Z", "00:00 of the next"),
        ("2016-12-31T23:59:60Z", "no leap seconds"),
        ("2026-02-29T00:00:00Z", "any calendar"),
        ("2026-01-18T22:31:61Z", "any calendar"),
        ("2026-01-18T22:31:04+24:00", "any calendar"),
        ("2026-01-18T23:31:04 01:00", "%2B"),
        ("2026-01-18", "neither"),
        ("20260118T223104Z", "neither"),
        ("2026-W03-7T22:31:04Z", "neither"),
        ("2026-01-18T22:31:04,5Z", "neither"),
        ("2026-01-18T22:31:04+01", "neither"),
        ("2026-01-18T22:31:04Z\n", "neither"),
        ("٢٠٢٦-01-18T22:31:04Z", "neither"),
        ("x" * 10_000, "neither"),
    ],
)
def test_what_is_no_instant_says_why(text: str, says: str) -> None:
    with pytest.raises(BadMoment, match=says) as refused:
        moment.parse(text)
    assert len(str(refused.value)) < 200


def test_at_the_ends_of_the_calendar_nothing_but_a_refusal_is_raised() -> None:
    for text in ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999"):
        for zone in (BERLIN, moment.zone("America/New_York")):
            try:
                found = moment.parse(text, zone)
            except BadMoment:
                continue
            assert isinstance(found, datetime) and found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Berlin",
        "Europe",
        "e/nowhere",
        "../etc/passwd",
        "/etc/localtime",
        "UTC\0",
        "tzdata.zi",
        "é",
        "E/" + "x" * 5000,
    ],
)
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BadMoment, match="as Europe/Berlin"):
        moment.zone(name)


def test_without_a_time_zone_database_utc_and_offsets_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small image has none: the sentence says what to install, and nothing else is lost."""
    monkeypatch.setattr(moment, "ZoneInfo", _no_zones)
    with pytest.raises(BadMoment, match="no time zone database: install tzdata"):
        moment.zone("Europe/Berlin")
    assert moment.parse("2026-01-18T12:00:00", moment.zone("utc")) == instant("2026-01-18T12:00:00+00:00")


def _no_zones(name: str) -> zoneinfo.ZoneInfo:
    raise zoneinfo.ZoneInfoNotFoundError(name)


def test_a_command_line_is_told_of_its_options() -> None:
    """And a request of its parameters."""
    with pytest.raises(BadMoment) as raised:
        moment.parse("2026-10-25T02:30", BERLIN)
    assert str(raised.value).endswith("or choose by fold: first or second")
    assert raised.value.by_option().endswith("or choose by --fold: first or second")
    with pytest.raises(BadMoment) as raised:
        moment.parse("yesterday")
    assert raised.value.by_option() == str(raised.value)
