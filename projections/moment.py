"""Moment: how people write "then". A position, an RFC 3339 time, or a local time of a zone; pure, it asks no log.

Zones are those of the machine's time zone database (or of the package ``tzdata``). Without one UTC and offsets are
all there is, and whoever names another zone is told so.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal
from zoneinfo import ZoneInfo

Fold = Literal["first", "second"]  # of the two hours that one hour's name stands for when a clock is set back
_POSITION: Final = re.compile(r"\d{1,18}\Z", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\dT(?P<hour>\d\d):\d\d(?::(?P<second>\d\d)(?:\.\d{1,9})?)?(?P<offset>Z|[+-]\d\d:\d\d)?\Z", re.ASCII
)
_SPACE_FOR_PLUS: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d\S* \d\d:\d\d\Z", re.ASCII)
_ZONE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}\Z", re.ASCII)
_MOST: Final = 60  # characters of what anybody may have sent that a sentence repeats


class BadMoment(ValueError):
    """Neither a position nor one instant. The text says what would be; ``parameter``, in it, what else may be given."""

    def __init__(self, text: str, parameter: str = "", rest: str = "") -> None:
        super().__init__(f"{text}{parameter}{rest}")
        self._parts = text, parameter, rest

    def by_option(self) -> str:
        """The text for a command line, which writes the parameter as an option."""
        text, parameter, rest = self._parts
        return f"{text}--{parameter}{rest}" if parameter else text


def parse(text: str, zone: tzinfo | None = None, fold: Fold | None = None) -> int | datetime:
    """A position, or an instant in UTC. Raises BadMoment.

    A time without an offset is one of ``zone``. When the zone's clock showed it twice, ``fold`` chooses; without
    ``fold`` both instants are named and it is refused. What the clock never showed is refused with what is near.
    Seconds may be left out; of a fraction, microseconds count, as in the log.
    """
    if _POSITION.match(text):
        return int(text)
    shown = repr(text if len(text) <= _MOST else text[: _MOST - 3] + "...")
    upper = text.upper()  # RFC 3339, 5.6: "t" and "z" are as good, and a space may stand for the "T"
    written = upper[:10] + "T" + upper[11:] if upper[10:11] == " " else upper
    found = _TIME.match(written)
    if found is None:
        if _SPACE_FOR_PLUS.match(written):
            raise BadMoment(f"{shown} has a space where its offset begins: in a query, + is written %2B")
        raise BadMoment(f"{shown} is neither a position nor an RFC 3339 time")
    if found["hour"] == "24":
        raise BadMoment(f"{shown}: a day ends with 23:59, write 00:00 of the next one")
    if found["second"] == "60":
        raise BadMoment(f"{shown}: the log's clock has no leap seconds, write second 59 or the next minute")
    try:
        time = datetime.fromisoformat(written)
    except ValueError:
        raise BadMoment(f"{shown} is not a time that any calendar has") from None
    if time.tzinfo is not None:
        return _utc(time, shown)
    if zone is None:
        raise BadMoment(f"{shown} needs an offset, as Z or +01:00, or its time zone: ", "tz")
    return _local(time, zone, fold, shown)


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name, as Europe/Berlin. Raises BadMoment, also when this machine knows no zones."""
    if name.upper() in ("UTC", "Z"):
        return UTC  # needs no database
    if _ZONE.match(name) and len(name) <= _MOST:
        try:
            return ZoneInfo(name)
        except (LookupError, ValueError, OSError):  # no such zone; a file there that is none; a directory
            pass
    if not _has_zones():
        raise BadMoment("this machine has no time zone database: install tzdata, or give times with their offset")
    raise BadMoment(f"{name[:_MOST]!r} is not a time zone that is known here: write it as Europe/Berlin")


def _has_zones() -> bool:
    try:
        return bool(ZoneInfo("Etc/UTC"))
    except (LookupError, OSError):
        return False


def _utc(time: datetime, shown: str) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise BadMoment(f"{shown} is outside of the years 1 to 9999 in UTC") from None


def _local(time: datetime, zone: tzinfo, fold: Fold | None, shown: str) -> datetime:
    """PEP 495: the two readings of a wall time differ only where the clock was changed."""
    first, second = (time.replace(tzinfo=zone, fold=which) for which in (0, 1))
    early, late = first.utcoffset(), second.utcoffset()
    assert early is not None and late is not None, "every zone has an offset at every time"
    if early == late:
        return _utc(first, shown)
    if early < late:
        before, after = _around_gap(_utc(second, shown), _utc(first, shown), zone)
        raise BadMoment(f"{shown} never was in {zone}: the clock there went from {before} on to {after}")
    if fold is None:
        raise BadMoment(
            f"{shown} was twice in {zone}: {first.isoformat()} and {second.isoformat()}; "
            "give one of these, or choose by ",
            "fold",
            ": first or second",
        )
    return _utc(first if fold == "first" else second, shown)


def _around_gap(low: datetime, high: datetime, zone: tzinfo) -> tuple[str, str]:
    """The last second that the clock showed before it was set on, and the first after; between ``low`` and ``high``."""
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // timedelta(seconds=2) * timedelta(seconds=1)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return low.astimezone(zone).isoformat(), high.astimezone(zone).isoformat()
