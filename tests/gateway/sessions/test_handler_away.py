"""Commands while the log is away: ends are facts and wait in the spool, all else is refused at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from events.catalogue import AdmissionReleased, SessionStopped, SessionStopRequested, TokenRevoked
from events.codec import decode, decode_actor
from events.envelope import session_stream
from events.errors import StoreUnavailable
from events.fallback import FallbackEventStore
from events.keyring import MemoryKeyring
from events.sealing import SubjectKey
from gateway.recorder import Recorder
from gateway.sessions import handler
from gateway.sessions.commands import MarkReady, MarkStopped, ResumeSession, RevealToken, StopSession
from gateway.sessions.handler import Origin, SessionHandler
from projections.lifecycle import Phase
from projections.views import Views
from tests.gateway.faulty import FaultyStore, spooled
from tests.gateway.sessions.test_handler import mint, opening
from tests.gateway.world import ORIGIN, eventually

SESSION = "ses_a"
AT_ONCE = 0.5  # seconds; a log that is away is not asked again for every command


class Keys(MemoryKeyring):
    """May be away with the log."""

    away = False
    frozen = False

    async def key_for(self, subject: str) -> SubjectKey:
        if self.away:
            raise StoreUnavailable("keys cannot be reached")
        if self.frozen:
            await asyncio.Event().wait()
        return await super().key_for(subject)


class Desk:
    """One process on a log with a spool, with one session that is ready."""

    def __init__(self, inner: FaultyStore, store: FallbackEventStore) -> None:
        self.inner, self.store = inner, store
        self.keys = Keys()
        self.views = Views(store, spool=store, poll_seconds=0.01)
        self.handler = SessionHandler(Recorder(store, self.keys), self.views, 3)

    async def go_away(self) -> None:
        self.inner.away = True
        await eventually(lambda: not self.store.status.available)

    async def come_back(self) -> None:
        self.inner.away = False
        await eventually(lambda: self.store.status.available)

    async def types(self) -> list[str]:
        return [event.type for event in await self.inner.read_log()]


@asynccontextmanager
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    inner = FaultyStore()
    async with spooled(inner, tmp_path) as store:
        made = Desk(inner, store)
        following = asyncio.create_task(made.views.run())
        try:
            await made.handler.handle(opening(SESSION), ORIGIN)
            await made.handler.handle(MarkReady(session_id=SESSION, generation=1, boot_us=1), ORIGIN)
            yield made
        finally:
            inner.away = False
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    await inner.close()


async def test_an_end_is_taken_and_shown_without_the_log(tmp_path: Path) -> None:
    """To stop is always allowed: asked for, carried out, over, and the seat is free, all of it in this process at
    once; in the log once, in this order, when it is back."""
    async with desk(tmp_path) as made:
        before = await made.types()
        await made.go_away()
        began = time.monotonic()
        asked = await made.handler.handle(StopSession(session_id=SESSION), ORIGIN)
        assert (asked.state.phase, asked.position, asked.changed) == (Phase.STOPPING, None, True)
        assert asked.state.token is not None and asked.state.token.revoked
        ended = await made.handler.handle(MarkStopped(session_id=SESSION, generation=1), ORIGIN)
        assert (ended.state.phase, made.views.seats.taken) == (Phase.STOPPED, {})
        assert time.monotonic() - began < AT_ONCE
        await made.come_back()
        tags = [SessionStopRequested, TokenRevoked, SessionStopped, AdmissionReleased]
        assert (await made.types())[len(before) :] == [str(each.__struct_config__.tag) for each in tags]
        await made.views.catch_up_to_head()
        state = made.views.sessions[SESSION]
        assert (state.phase, state.anomalies, made.views.seats.taken) == (Phase.STOPPED, 0, {})


async def test_an_end_that_is_told_twice_is_one(tmp_path: Path) -> None:
    """What this process knows has to do while the head cannot be looked at."""
    async with desk(tmp_path) as made:
        await made.go_away()
        await made.handler.handle(StopSession(session_id=SESSION), ORIGIN)
        units = made.store.status.spooled_units
        again = await made.handler.handle(StopSession(session_id=SESSION), ORIGIN)
        assert (again.changed, again.state.phase) == (False, Phase.STOPPING)
        assert made.store.status.spooled_units == units


async def test_an_end_whose_answer_was_lost_is_in_the_log_once(tmp_path: Path) -> None:
    """The append arrived, its answer did not: the fact that is spooled then has the same ids."""
    async with desk(tmp_path) as made:
        made.inner.lost_answers = 1
        handled = await made.handler.handle(StopSession(session_id=SESSION), ORIGIN)
        assert handled.state.phase is Phase.STOPPING
        await eventually(lambda: made.store.status.available)
        assert (await made.types()).count("session.stop_requested") == 1
        await eventually(lambda: made.views.sessions[SESSION].anomalies == 0)  # until the next page shows it twice


async def test_an_end_does_not_wait_for_the_key_of_a_person(tmp_path: Path) -> None:
    """Who stopped it is then told by the API key alone: a name is sealed or not told."""
    async with desk(tmp_path) as made:
        await made.go_away()
        made.keys.away = True
        by_ada = Origin(who=msgspec.structs.replace(ORIGIN.who, person="ada"), cause=ORIGIN.cause)
        assert (await made.handler.handle(StopSession(session_id=SESSION), by_ada)).changed
        await made.come_back()
        *_, asked, _ = await made.inner.read_stream(session_stream(SESSION))
        assert isinstance(decode(asked), SessionStopRequested)
        actor = decode_actor(asked)
        assert (actor.id, actor.on_behalf_of) == (ORIGIN.who.id, None)


async def test_an_end_waits_for_a_frozen_log_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person not seen before, whose key would be made where the log is: its time-out must not come on top."""
    monkeypatch.setattr(handler, "PERSON_SECONDS", AT_ONCE / 5)
    async with desk(tmp_path) as made:
        made.keys.frozen = True
        by_ada = Origin(who=msgspec.structs.replace(ORIGIN.who, person="ada"), cause=ORIGIN.cause)
        async with asyncio.timeout(AT_ONCE):
            assert (await made.handler.handle(StopSession(session_id=SESSION), by_ada)).changed
        *_, asked, _ = await made.inner.read_stream(session_stream(SESSION))
        assert decode_actor(asked).on_behalf_of is None


async def test_commands_that_expect_a_version_are_refused_at_once(tmp_path: Path) -> None:
    """Nothing of them is spooled: whether they may be granted is not known here."""
    async with desk(tmp_path) as made:
        await made.go_away()
        commands = (
            opening("ses_b"),
            RevealToken(session_id=SESSION),
            ResumeSession(session_id=SESSION, container="c", runtime="mock", instance="g1", mint=mint(SESSION)),
            MarkReady(session_id=SESSION, generation=1, boot_us=1),
        )
        for command in commands:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await made.handler.handle(command, ORIGIN)
            assert time.monotonic() - began < AT_ONCE, type(command).__name__
        assert made.store.status.spooled_units == 0
