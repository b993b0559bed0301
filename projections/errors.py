"""What can go wrong between the log and what is derived from it."""

from datetime import datetime


class ProjectionError(Exception):
    """Base of this room."""


class ProjectionBehind(ProjectionError):
    """A view did not reach the wanted position in time. Retry; the log itself is fine."""

    def __init__(self, wanted: int, reached: int) -> None:
        super().__init__(f"the view is at position {reached}, {wanted} was asked for")
        self.wanted, self.reached = wanted, reached


class Superseded(ProjectionError):
    """A table was moved by another since it was read, or the lease is another's: nothing was written. Begin anew."""

    def __init__(self, tables: str) -> None:
        super().__init__(f"another has written {tables or 'the tables'} since, or holds the lease of the projector")


class UnreadableState(ProjectionError):
    """A row of a table holds a state that no fold of this version writes. The log has what it was: make it anew."""

    def __init__(self, table: str, why: str) -> None:
        super().__init__(f"a state in the table {table} cannot be read ({why})")
        self.table = table


class RowRefused(ProjectionError):
    """Postgres refuses a row of a table, whatever the log says: a fault of ours, or of who changed the table."""

    def __init__(self, table: str, why: str) -> None:
        super().__init__(f"Postgres refuses a row of the table {table}: {why}")
        self.table = table


class RebuildRefused(ProjectionError):
    """A table is not rebuilt, or not proved; the text is a whole sentence and says what to do. Nothing was changed."""


class UnderWay(RebuildRefused):
    """Another process is at it. ``expires_at``: by then it is known to be gone, if it is."""

    def __init__(self, name: str, holder: str, expires_at: datetime | None = None, seconds: int = 1) -> None:
        super().__init__(
            f"{holder} is rebuilding {name}: wait until it is done, or end that process; if it is gone, try again in"
            f" {seconds} s."
        )
        self.holder, self.expires_at = holder, expires_at


class WouldLose(RebuildRefused):
    """Something stands on the table that the one in its place would not have. ``what``: as Postgres calls it."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"The table view.{name} has what a new one would not have: {what}. It stays as it is. Note how these are"
            " made, take the rights that they restrain, drop them, rebuild, and make them anew before you give the"
            " rights back."
        )
        self.what = what


class TableHeld(RebuildRefused):
    """Somebody reads the table in a transaction that does not end. What was built is kept for the next rebuild."""

    def __init__(self, name: str, holders: str) -> None:
        super().__init__(
            f"The new table of {name} is complete and could not take its place: {holders} held the former one all the"
            " time. Rebuild again when that has ended; it goes on from there."
        )
