"""The views over the store that spools: what happened while the log was away shows here, and later in the log."""

import asyncio
from pathlib import Path

import pytest

from events.envelope import ANY, StreamWrite, container_stream, session_stream
from events.store import Spooled
from projections.errors import ProjectionBehind
from projections.lifecycle import Phase
from projections.projection import fold
from projections.session_state import Sessions
from projections.views import Views
from tests.events.wavering import WaveringStore, go_away, spooling
from tests.factories import event, write
from tests.projections.histories import one_of_each

SECONDS = 20.0


async def test_an_outage_shows_at_once_and_leaves_no_trace_in_the_states(tmp_path: Path) -> None:
    """A container dies and its session fails while the log is away: whoever asks this process is told. When the log is
    back, with what another process wrote first, the states are the fold of the log and nothing lies on them."""
    inner = WaveringStore()
    requested, ready, failed, *_ = one_of_each("a", 1)
    others = one_of_each("b", 1)[0]
    died = next(each for each in one_of_each("a", 1) if type(each).__name__ == "ContainerDied")
    await inner.append(write(session_stream("a"), requested, ready))
    async with spooling(inner, tmp_path) as store:
        views = Views(store, spool=store, poll_seconds=0.01)
        await views.load()
        task = asyncio.create_task(views.run())
        try:
            await go_away(store, inner)
            for stream_id, said in ((container_stream("a-c1"), died), (session_stream("a"), failed)):
                assert await store.append(StreamWrite(stream_id, ANY, (event(said),))) == Spooled()
            assert (views.sessions["a"].phase, views.sessions["a"].version) == (Phase.FAILED, 2)
            with pytest.raises(ProjectionBehind):
                await views.catch_up(3, timeout=0.01)  # a spooled event has no position to wait for
            inner.away = False
            await inner.append(write(session_stream("b"), others))  # another process, past this one's spool
            assert await views.wait_for(lambda: "b" in views.sessions and views.spooled == 0, SECONDS)
            assert store.pending() == () and views.sessions["a"].version == 3
            assert views.sessions == fold(Sessions(), {}, await store.read_log())
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_event_whose_answer_was_lost_is_shown_once(tmp_path: Path) -> None:
    """It was appended, told as failed, and spooled: the log knows it when it is replayed, and the tail brings it or
    has brought it. Either way it leaves the overlay."""
    inner = WaveringStore()
    requested, ready, failed, *_ = one_of_each("a", 1)
    await inner.append(write(session_stream("a"), requested, ready))
    async with spooling(inner, tmp_path) as store:
        views = Views(store, spool=store, poll_seconds=0.01)
        await views.load()
        task = asyncio.create_task(views.run())
        try:
            inner.lost_answers = 1
            assert await store.append(StreamWrite(session_stream("a"), ANY, (event(failed),))) == Spooled()
            assert views.sessions["a"].phase is Phase.FAILED
            assert await views.wait_for(lambda: views.spooled == 0 and views.position == 3, SECONDS)
            assert (views.sessions["a"].phase, views.sessions["a"].anomalies) == (Phase.FAILED, 0)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
