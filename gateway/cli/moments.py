"""Moments on the command line: what --as-of, --tz and --fold mean, decided here and sent as a position or in UTC.

So a gateway needs to know no time zones of its callers, and a slip costs no request.
"""

from datetime import datetime, tzinfo

import msgspec

from gateway.cli import printing
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Fold
from projections import moment
from projections.moment import BadMoment


class Then(msgspec.Struct, frozen=True, kw_only=True):
    """``written``: as it was given; ``exact``: a position, or an instant in UTC. ``zone``: the one to show times in."""

    written: str | None
    exact: str | None
    zone: tzinfo | None

    def told(self, position: int) -> str:
        """The line that says what the answer is of: a time is named with its instant when that was not written."""
        assert self.written is not None and self.exact is not None
        instant = ""
        if self.zone is not None and not self.exact.isdecimal():
            instant = f" ({printing.when(self.exact, zone=self.zone, exact=True)})"
        return f"As of {printing.shown(self.written)}{instant}: position {position}."


def then(as_of: str | None, tz: str | None, fold: Fold | None) -> Then:
    """What the three options mean. Raises Failure."""
    zone = zone_of(tz)
    if as_of is None:
        if fold is not None:
            raise Failure(Exit.USAGE, "--fold says which of two hours --as-of means, and that is missing.")
        return Then(written=None, exact=None, zone=zone)
    try:
        found = moment.parse(as_of, zone, None if fold is None else fold.value)
    except BadMoment as error:
        raise Failure(Exit.USAGE, f"--as-of: {error.by_option()}.") from error
    return Then(written=as_of, exact=exact(found), zone=zone)


def exact(found: int | datetime) -> str:
    """A position, or a time in UTC, as a gateway is asked for it."""
    return found.isoformat().replace("+00:00", "Z") if isinstance(found, datetime) else str(found)


def zone_of(tz: str | None) -> tzinfo | None:
    """The zone of --tz; None without one, which is the machine's own. Raises Failure."""
    try:
        return None if tz is None else moment.zone(tz)
    except BadMoment as error:
        raise Failure(Exit.USAGE, f"--tz: {error.by_option()}.") from error
