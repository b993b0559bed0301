"""Histories for the laws of the folds: any mixture of events at all, and lives of sessions as gateways make them.

Two sessions, two generations, a few names: small enough that events meet. ``record`` sends each through the codec.
"""

from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st

from events.catalogue import (
    AccessDenied,
    AdmissionEvent,
    ApiKeyCreated,
    ApiKeyRevoked,
    ContainerEvent,
    ExchangeEvent,
    ExchangeOpened,
    ExchangeSummarized,
    GatewayCrashed,
    GatewayStarted,
    GatewayStopped,
    HealthChanged,
    HealthEvent,
    HealthSummarized,
    LogRead,
    Payload,
    SessionDataRemoved,
    SessionEvent,
    SubjectErased,
    TokenRevealed,
)
from events.envelope import RecordedEvent
from events.registry import tag_of
from projections.lifecycle import TRANSITIONS, Phase
from tests.factories import MOMENT, payload
from tests.projections.histories import one_of_each, record

NAMES = ("a", "b")
GENERATIONS = (1, 2)


def about(name: str, generation: int) -> list[Payload]:
    """Everything that an event can say of one generation of a session, and what else a log holds beside it."""
    container = f"{name}-c{generation}"
    used: dict[str, Any] = {"session_id": name, "container": container}
    later = MOMENT + timedelta(hours=generation)
    return [
        *one_of_each(name, generation),
        SessionDataRemoved(session_id=name, volumes=("h", "w"), reason="erased"),
        TokenRevealed(session_id=name, serial=generation),
        payload(ExchangeOpened, **used, exchange_id="x"),
        payload(ExchangeOpened, **used, exchange_id=f"{name}-{generation}"),
        payload(ExchangeSummarized, **used, first_at=later, last_at=later),
        payload(ExchangeSummarized, **used, reason="interval", first_at=None, last_at=None),
        payload(HealthChanged, **used, before="healthy", after="unhealthy"),
        payload(HealthChanged, **used, before="unhealthy", after="healthy"),
        payload(HealthSummarized, **used, first_at=later, last_at=later, response_times=(0,) * generation + (3,)),
        payload(AccessDenied, session_id=name),
        payload(LogRead, session_id=name),
        ApiKeyCreated(key_id=f"k{generation}", name=name, role="frontend", sha256="aa"),
        ApiKeyRevoked(key_id=f"k{generation}"),
        payload(GatewayStarted, instance=f"g{generation}"),
        payload(GatewayStopped, instance=f"g{generation}"),
        payload(GatewayCrashed, instance=f"g{generation}"),
        SubjectErased(key_ids=(f"sk_{name}", "sk_both"), reason="asked"),
    ]


EVERYTHING = [said for name in NAMES for generation in GENERATIONS for said in about(name, generation)]

_Fact = ContainerEvent | ExchangeEvent | HealthEvent | AdmissionEvent
_RIDES = {
    "session.requested": "token.issued",
    "session.resumed": "token.issued",
    "session.stop_requested": "token.revoked",
}


@st.composite
def lives(draw: st.DrawFn, name: str) -> list[Payload]:
    """One session as a gateway makes it: only moves of the lifecycle's table, facts and use in between."""
    told: list[Payload] = []
    phase, generation = Phase.ABSENT, 0
    for _ in range(draw(st.integers(1, 7))):
        tag = draw(st.sampled_from([tag for tag in TRANSITIONS[phase] if tag != "session.imported"]))
        generation += tag in ("session.requested", "session.resumed")
        phase = TRANSITIONS[phase][tag]
        said = about(name, generation)
        told += [each for each in said if tag_of(each) in (tag, _RIDES.get(tag))]
        between = [fact for fact in said if isinstance(fact, _Fact)]
        told += draw(st.lists(st.sampled_from(between), max_size=4))
    return told


@st.composite
def _woven(draw: st.DrawFn) -> list[Payload]:
    """Two lives at once, and whatever else happens."""
    strands = [draw(lives(name)) for name in NAMES] + [draw(st.lists(st.sampled_from(EVERYTHING), max_size=4))]
    woven: list[Payload] = []
    while strands := [strand for strand in strands if strand]:
        woven.append(draw(st.sampled_from(strands)).pop(0))
    return woven


payloads = st.one_of(st.lists(st.sampled_from(EVERYTHING), max_size=40), _woven())
histories = payloads.map(record)
short_histories = st.one_of(st.lists(st.sampled_from(EVERYTHING), max_size=20), _woven().map(lambda it: it[:25])).map(
    record
)


@st.composite
def disturbed(draw: st.DrawFn) -> tuple[list[RecordedEvent], list[RecordedEvent]]:
    """A life, and the same with its facts told late, early, in another order and twice. Moves keep their order."""
    calm = draw(lives("a"))
    moves = [said for said in calm if isinstance(said, SessionEvent)]
    facts = [said for said in calm if not isinstance(said, SessionEvent)]
    again = draw(st.lists(st.sampled_from(facts), max_size=5)) if facts else []
    wild: list[Payload] = [*moves]
    for fact in draw(st.permutations(facts + again)):
        wild.insert(draw(st.integers(0, len(wild))), fact)
    return record(calm), record(wild)


@st.composite
def with_the_future(draw: st.DrawFn) -> tuple[list[RecordedEvent], list[RecordedEvent]]:
    """A history with events of later releases and unreadable ones in it, and the same without them, in place."""
    events = draw(histories)
    later = draw(st.sets(st.integers(0, max(0, len(events) - 1))))
    mixed = [_later(event, nth) if nth in later else event for nth, event in enumerate(events)]
    return mixed, [event for nth, event in enumerate(events) if nth not in later]


def _later(event: RecordedEvent, nth: int) -> RecordedEvent:
    """A type that this release does not know, a later version of one, or one that nobody wrote: none can be read."""
    if nth % 3 == 0:
        deep = b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
        return msgspec.structs.replace(event, payload=(b"{}", deep, b"\xff", event.payload[:-1])[nth % 4])
    if nth % 3 == 1:
        return msgspec.structs.replace(event, type="session.teleported", payload=b'{"to":"moon"}')
    return msgspec.structs.replace(event, schema_version=event.schema_version + 1, payload=b"\x00 other bytes")
