"""How a session's container answers when it is asked. Stream ``container-{name}``.

Health is told openly in two forms: each change as it is seen, and every interval a summary of the checks in it. One
event a check would be 28.8 million a day for 10,000 sessions that are asked every 30 seconds.
"""

from datetime import datetime
from typing import Final

import msgspec

# Upper bounds of the buckets of ``HealthSummarized.response_times``, in microseconds, each inclusive; what is slower
# than the last is in one more. They are part of the event: another list is another version of it.
RESPONSE_BOUNDS_US: Final = (
    *(1_000, 2_000, 3_000, 5_000, 7_500),
    *(10_000, 15_000, 20_000, 30_000, 50_000, 75_000),
    *(100_000, 150_000, 200_000, 300_000, 500_000, 750_000),
    *(1_000_000, 1_500_000, 2_000_000, 3_000_000, 5_000_000, 7_500_000, 10_000_000),
)


class HealthChanged(msgspec.Struct, frozen=True, kw_only=True, tag="health.changed"):
    """A check found another state than the one before. Words: unknown, healthy, unhealthy, restarting, failed."""

    session_id: str
    container: str
    before: str
    after: str
    reason: str  # a word: answered, timeout, refused, bad_answer, not_running, restarted, given_up, ...
    failures: int = 0  # failed checks in a row, this one among them
    response_us: int | None = None  # of the check, when there was an answer


class HealthSummarized(msgspec.Struct, frozen=True, kw_only=True, tag="health.summarized"):
    """The checks of one container in an interval.

    A check is in one summary, also when it has a ``health.changed`` of its own. Those since the last summary of a
    monitor that is killed are in none: what it had not told, nobody knows.
    """

    session_id: str
    container: str
    first_at: datetime  # the writer's clock, at the first and the last of the checks
    last_at: datetime
    checks: int  # healthy, failed, and those that found out nothing: the runtime itself did not answer
    healthy: int
    failed: int
    status: str  # after the last of them
    response_us: int  # sum over the checks that were answered in time, in any words
    slowest_us: int
    # How many answers fell into each bucket of RESPONSE_BOUNDS_US, and last the slower ones; trailing zeros left out.
    response_times: tuple[int, ...]
