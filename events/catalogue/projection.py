"""What became of the tables that are derived from the log. Stream ``system``."""

import msgspec


class ProjectionRebuilt(msgspec.Struct, frozen=True, kw_only=True, tag="projection.rebuilt"):
    """A table was made anew from the log and took the place of the one that was there."""

    projection: str
    version: int
    position: int  # the table holds the log up to here
    rows: int
    differing: int  # rows in which the former table, at the same position, said something else
    reason: str  # a word: asked, version (the fold has changed), erased (a subject's data had to go)
    duration_us: int


class ProjectionVerified(msgspec.Struct, frozen=True, kw_only=True, tag="projection.verified"):
    """A table was compared, row by row, with a fold of the log up to the same position."""

    projection: str
    version: int
    position: int
    rows: int
    differing: int  # rows that are missing, too many, or say something else: drift, unless it is 0
    examples: tuple[str, ...]  # keys of some of them, at most 20
    duration_us: int
