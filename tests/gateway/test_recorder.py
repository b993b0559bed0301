"""The recorder: who did what, because of what, and no person in clear."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from events.catalogue import AccessDenied, SessionStopped
from events.codec import decode
from events.envelope import SYSTEM, Actor, ActorKind, Assurance, session_stream
from events.errors import StoreUnavailable, UnreadableEvent
from events.ids import named
from events.keyring import MemoryKeyring
from events.memory import MemoryEventStore
from events.sealing import Place, SubjectKey, unseal
from events.store import Appended, Conflict, Fenced, Mismatch, Spooled
from gateway.recorder import ACTOR_FIELD, NotAppended, Recorder, Who, accepted, session_subject, unattributed
from tests.factories import CAUSE, MOMENT, payload

FRONTEND = Who(kind=ActorKind.KEY, id="chat", key_id="k1", person="ada@example.org")
GATEWAY = Who(kind=ActorKind.GATEWAY, id="g1")
STREAM = session_stream("s1")


def recorder() -> Recorder:
    return Recorder(MemoryEventStore(), MemoryKeyring(), now=lambda: MOMENT)


def actor(raw: bytes) -> Actor:
    return msgspec.json.decode(raw, type=Actor)


async def test_an_event_says_who_and_because_of_what() -> None:
    event = await recorder().event(STREAM, payload(SessionStopped), who=GATEWAY, cause=CAUSE)
    assert actor(event.actor) == Actor(kind=ActorKind.GATEWAY, id="g1")
    assert (event.causation_id, event.correlation_id) == (CAUSE.causation_id, CAUSE.correlation_id)
    assert (event.trace_id, event.span_id, event.occurred_at) == (CAUSE.trace_id, CAUSE.span_id, MOMENT)


async def test_the_person_behind_a_key_is_sealed_for_that_very_place() -> None:
    """Asserted by the frontend, readable with the subject's key alone, and not movable to another stream (row C7)."""
    made = recorder()
    event = await made.event(STREAM, payload(SessionStopped), who=FRONTEND)
    assert b"ada" not in event.actor
    who = actor(event.actor)
    assert (who.key_id, who.assurance) == ("k1", Assurance.ASSERTED)
    assert who.on_behalf_of is not None
    key = await made.keyring.key_for("ada@example.org")
    place = Place(STREAM, "session.stopped", ACTOR_FIELD)
    assert unseal(key, who.on_behalf_of, place) == "ada@example.org"
    elsewhere = Place(session_stream("s2"), "session.stopped", ACTOR_FIELD)
    with pytest.raises(UnreadableEvent):
        unseal(key, who.on_behalf_of, elsewhere)


async def test_an_id_and_a_time_that_are_given_are_kept() -> None:
    then, event_id = MOMENT - timedelta(hours=1), named("test", "1")
    event = await recorder().event(STREAM, payload(SessionStopped), who=GATEWAY, event_id=event_id, occurred_at=then)
    assert (event.event_id, event.occurred_at) == (event_id, then)


async def test_a_fact_is_true_in_any_order_and_told_once() -> None:
    """Whatever is in the stream already; told twice, it answers where it stands."""
    made, denied = recorder(), payload(AccessDenied)
    event_id = named("test", "1")
    assert await made.fact(SYSTEM, denied, who=GATEWAY, event_id=event_id) == 1
    assert await made.fact(SYSTEM, denied, who=GATEWAY) == 2
    assert await made.fact(SYSTEM, denied, who=GATEWAY, event_id=event_id) == 1
    assert [decode(event) for event in await made.store.read_log()] == [denied, denied]


async def test_without_the_subjects_key_nothing_is_written() -> None:
    """A person is never recorded in clear for want of a key."""

    class Away(MemoryKeyring):
        async def key_for(self, subject: str) -> SubjectKey:
            raise StoreUnavailable("keys cannot be reached")

    made = Recorder(MemoryEventStore(), Away())
    with pytest.raises(StoreUnavailable):
        await made.fact(SYSTEM, payload(AccessDenied), who=FRONTEND)
    assert await made.store.read_log() == []


def test_only_a_unit_that_is_durable_is_accepted() -> None:
    """In the log, or in the spool, where it has no position yet."""
    assert accepted(Appended(3, 4, (1, 2))) == 4
    assert accepted(Spooled()) is None
    for outcome in (Conflict(SYSTEM, 3), Mismatch(named("test", "1")), Fenced("job")):
        with pytest.raises(NotAppended, match=type(outcome).__name__):
            accepted(outcome)


def test_nobody_we_know_is_a_subject_a_day() -> None:
    """Erasing one day's strangers must not cost a key for each of them."""
    midnight = datetime(2026, 1, 18, 23, 59, tzinfo=UTC)
    assert unattributed(midnight) == "unattributed:2026-01-18"
    assert unattributed(midnight + timedelta(minutes=1)) == "unattributed:2026-01-19"
    assert session_subject("s1") != session_subject("s2")


def test_the_clock_is_utc() -> None:
    assert Recorder(MemoryEventStore(), MemoryKeyring()).now().tzinfo in (UTC, UTC)
