"""The history of a session's health: figures from summaries, status and timeline from changes."""

from itertools import pairwise
from random import Random

import pytest

from events.catalogue import HealthChanged, HealthSummarized, Payload, SessionReady
from events.catalogue.health import RESPONSE_BOUNDS_US
from projections.health_history import TIMELINE, HealthHistories, HealthHistory, quantile_us
from projections.projection import fold
from tests.factories import MOMENT, history, payload


def folded(*payloads: Payload) -> HealthHistory:
    return fold(HealthHistories(), {}, history("container-c1", payloads))["s1"]


def changed(after: str, container: str = "c1") -> HealthChanged:
    return payload(HealthChanged, after=after, container=container)


def histogram(answers: list[int]) -> tuple[int, ...]:
    """As a monitor counts them."""
    buckets = [0] * (len(RESPONSE_BOUNDS_US) + 1)
    for answer in answers:
        buckets[next((n for n, bound in enumerate(RESPONSE_BOUNDS_US) if answer <= bound), -1)] += 1
    while buckets and not buckets[-1]:
        del buckets[-1]
    return tuple(buckets)


def test_summaries_add_up() -> None:
    """Two intervals are the figures of both; the histogram of one may be longer than the other's."""
    one = payload(HealthSummarized, checks=3, healthy=2, failed=1, response_us=3_000, response_times=(1, 1))
    two = payload(HealthSummarized, checks=2, healthy=2, failed=0, response_us=9_000, response_times=(0, 1, 0, 1))
    state = folded(one, two)
    assert (state.checks, state.healthy, state.failed) == (5, 4, 1)
    assert (state.response_times, state.answered, state.average_us) == ((1, 2, 0, 1), 4, 3_000)
    assert (state.first_at, state.last_at) == (one.first_at, one.last_at)


@pytest.mark.parametrize("seed", range(20))
def test_p95_is_the_upper_bound_of_the_bucket_it_is_in(seed: int) -> None:
    """Never below the true one, never above the slowest, less than twice as high above a millisecond."""
    chance = Random(seed)
    answers = sorted(round(1_000 * chance.paretovariate(0.7)) for _ in range(chance.randrange(1, 400)))
    told = quantile_us(histogram(answers), 95, answers[-1])
    true = answers[-(-len(answers) * 95 // 100) - 1]
    assert told is not None and true <= told <= answers[-1]
    assert true > RESPONSE_BOUNDS_US[-1] or told < 2 * true


def test_no_bucket_is_wider_than_the_promise() -> None:
    assert all(upper <= 2 * lower for lower, upper in pairwise(RESPONSE_BOUNDS_US))


def test_without_an_answer_there_is_no_time() -> None:
    state = folded(payload(HealthSummarized, checks=4, healthy=0, failed=4, response_us=0, response_times=()))
    assert (state.failed, state.average_us, state.p95_us) == (4, None, None)


def test_answers_beyond_the_last_bucket_stay_counted() -> None:
    """A longer list than this release knows must neither raise nor lose an answer."""
    longer = tuple([1] * (len(RESPONSE_BOUNDS_US) + 4))
    state = folded(payload(HealthSummarized, response_times=longer, slowest_us=99_000_000))
    assert len(state.response_times) == len(RESPONSE_BOUNDS_US) + 1 and state.answered == len(longer)
    assert state.p95_us == 99_000_000


def test_timeline_is_bounded_and_says_what_it_dropped() -> None:
    state = folded(*(changed("healthy" if n % 2 else "unhealthy") for n in range(TIMELINE + 3)))
    assert (len(state.timeline), state.dropped) == (TIMELINE, 3)
    assert [change.position for change in state.timeline] == list(range(4, TIMELINE + 4))
    assert (state.timeline[0].before, state.timeline[0].reason) == ("healthy", "timeout")


def test_status_is_what_was_told_last_and_since_when() -> None:
    state = folded(changed("unhealthy"), changed("failed"), payload(HealthSummarized, status="failed"))
    assert (state.status, state.since) == ("failed", state.timeline[1].at)
    assert state.since is not None and state.since > MOMENT


def test_a_late_summary_of_a_former_container_is_counted_and_changes_no_status() -> None:
    """A resumed session has another container; what the monitor still had to tell of the first one is true of it."""
    late = payload(HealthSummarized, status="failed", container="c1", checks=20)
    state = folded(changed("failed", "c1"), changed("healthy", "c2"), late)
    assert (state.status, state.container, state.checks) == ("healthy", "c2", 20)


def test_other_events_are_nobodys() -> None:
    assert HealthHistories().key(payload(SessionReady)) is None
    assert fold(HealthHistories(), {}, history("session-s1", [SessionReady])) == {}
