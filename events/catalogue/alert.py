"""Alerts: what an operator must hear of, as one instance sees it. Stream ``gateway-{instance}``."""

from datetime import datetime

import msgspec


class AlertRaised(msgspec.Struct, frozen=True, kw_only=True, tag="alert.raised"):
    """Something is wrong; ``alert.cleared`` of the same instance and name ends it, or the instance's own end does.

    What is wrong with a table (``projection_drift_NAME``) outlives the instance: another tells its end.
    """

    instance: str
    name: str  # a word: log_away, projection_drift_NAME, unreadable_event
    detail: str  # one sentence, no secret


class AlertCleared(msgspec.Struct, frozen=True, kw_only=True, tag="alert.cleared"):
    """It is over. Of a log that was away: everything that waited for it stands before this event."""

    instance: str
    name: str
    since: datetime  # when it began, by the instance's clock
    lasted_ms: int
    replayed: int = 0  # writes that waited in the spool and are in the log now
    refused: int = 0  # requests that were answered 503 meanwhile, since they need the log
