"""The projection ``health_history``: how a session's containers answered, in figures and as a timeline.

Figures come from the summaries, in which every check is told; the timeline and the status from the changes.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Final

import msgspec
from msgspec.structs import replace

from events.catalogue import HealthChanged, HealthEvent, HealthSummarized, Payload
from events.catalogue.health import RESPONSE_BOUNDS_US
from events.envelope import RecordedEvent
from events.registry import tags

TIMELINE: Final = 50  # changes that are kept, the newest; the log has the others
UNKNOWN: Final = "unknown"


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One ``health.changed``. ``at`` is the log's time."""

    position: int
    at: datetime
    container: str
    before: str
    after: str
    reason: str
    failures: int
    response_us: int | None


class HealthHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The checks of one session, over all its containers, as of ``position``."""

    session_id: str
    position: int = 0
    status: str = UNKNOWN  # as it was told last
    since: datetime | None = None  # the log's time when that status was first told
    container: str = ""  # the one that the status is of
    checks: int = 0  # told in summaries: what was checked since the last one is not in it yet
    healthy: int = 0
    failed: int = 0
    first_at: datetime | None = None  # the monitor's clock, at the first and the last of those checks
    last_at: datetime | None = None
    response_us: int = 0  # sum over ``answered``
    slowest_us: int = 0
    response_times: tuple[int, ...] = ()  # answers in each bucket of RESPONSE_BOUNDS_US, and last the slower ones
    timeline: tuple[Change, ...] = ()  # the newest TIMELINE changes, the oldest first
    dropped: int = 0  # changes that were in the timeline and had to go

    @property
    def answered(self) -> int:
        """Checks that got an answer in time."""
        return sum(self.response_times)

    @property
    def average_us(self) -> int | None:
        """Exact, rounded down; None without an answer."""
        return self.response_us // self.answered if self.answered > 0 else None

    @property
    def p95_us(self) -> int | None:
        """As ``quantile_us``, of 95 in 100 answers."""
        return quantile_us(self.response_times, 95, self.slowest_us)


def quantile_us(response_times: Sequence[int], percent: int, slowest_us: int) -> int | None:
    """A time that ``percent`` in 100 answers did not exceed: the upper bound of the bucket that the last of them is in.

    So it is never too low, and less than twice too high where that time is above 1 ms; nor is it above the slowest
    answer. None without an answer.
    """
    wanted = -(-sum(response_times) * percent // 100)
    if wanted <= 0:
        return None
    seen = 0
    for answers, bound in zip(response_times, RESPONSE_BOUNDS_US, strict=False):
        seen += answers
        if seen >= wanted:
            return min(bound, slowest_us)
    return slowest_us


class HealthHistories:
    """Histories by session id."""

    name: Final = "health_history"
    version: Final = 1
    types: Final = tags(HealthEvent)

    def key(self, payload: Payload) -> str | None:
        return payload.session_id if isinstance(payload, HealthEvent) else None

    def evolve(self, state: HealthHistory | None, event: RecordedEvent, payload: Payload) -> HealthHistory | None:
        match payload:
            case HealthChanged() | HealthSummarized():
                before = state or HealthHistory(session_id=payload.session_id)
            case _:
                return state
        if event.position <= before.position:
            return state  # told twice
        if isinstance(payload, HealthChanged):
            return _changed(before, event, payload)
        return _summarized(before, event, payload)


def _changed(state: HealthHistory, event: RecordedEvent, payload: HealthChanged) -> HealthHistory:
    change = Change(
        event.position,
        event.recorded_at,
        payload.container,
        payload.before,
        payload.after,
        payload.reason,
        payload.failures,
        payload.response_us,
    )
    timeline = (*state.timeline, change)
    return replace(
        _told(state, event, payload.container, payload.after),
        timeline=timeline[-TIMELINE:],
        dropped=state.dropped + max(0, len(timeline) - TIMELINE),
    )


def _summarized(state: HealthHistory, event: RecordedEvent, payload: HealthSummarized) -> HealthHistory:
    # The last summary of a container may be told after its successor was found healthy.
    if state.container in ("", payload.container):
        state = _told(state, event, payload.container, payload.status)
    return replace(
        state,
        position=event.position,
        checks=state.checks + payload.checks,
        healthy=state.healthy + payload.healthy,
        failed=state.failed + payload.failed,
        first_at=min(state.first_at or payload.first_at, payload.first_at),
        last_at=max(state.last_at or payload.last_at, payload.last_at),
        response_us=state.response_us + payload.response_us,
        slowest_us=max(state.slowest_us, payload.slowest_us),
        response_times=_merged(state.response_times, payload.response_times),
    )


def _told(state: HealthHistory, event: RecordedEvent, container: str, status: str) -> HealthHistory:
    same = (container, status) == (state.container, state.status)
    since = state.since if same else event.recorded_at
    return replace(state, position=event.position, container=container, status=status, since=since)


def _merged(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Bucket by bucket: histograms of any intervals add up to the one of all of them."""
    merged = tuple(map(sum, zip_longest(one, other, fillvalue=0)))
    last = len(RESPONSE_BOUNDS_US)
    return merged if len(merged) <= last + 1 else (*merged[:last], sum(merged[last:]))
