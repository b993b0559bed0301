"""PROJECTION_*: what is done about the tables of the projections without being asked."""

from typing import Annotated

import msgspec
from msgspec import Meta


class ProjectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of the projections, where the log is in Postgres."""

    projection_verify_hour: Annotated[
        int,
        Meta(
            ge=-1,
            le=23,
            description="hour of the day, in UTC, from which each table is compared with the log once a day; -1: never",
        ),
    ] = 3
