"""Bytes that can never change: canonical JSON against an independent implementation, and what old readers see."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from events import codec
from events.catalogue import (
    ApiKeyCreated,
    ExchangeCompleted,
    Payload,
    SessionFailed,
    SessionReady,
    SessionRequested,
    TokenIssued,
)
from events.envelope import MAX_PAYLOAD_BYTES, Actor, ActorKind, Assurance, RecordedEvent
from events.errors import BadEvent, EventTooLarge, UnreadableEvent
from events.registry import EVENT_TYPES, EventType
from tests.factories import CAUSE, FRONTEND, GATEWAY, MOMENT, SAMPLES, event, payload, recorded

KINDS = list(EVENT_TYPES.values())
by_tag = pytest.mark.parametrize("known", KINDS, ids=lambda known: known.tag)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
keys = st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_canonical_bytes_are_rfc_8785(value: Any) -> None:
    """Whoever verifies the log years from now needs a published rule, not our library's habits."""
    assert codec.canonical(value) == rfc8785.dumps(value)


@by_tag
def test_payload_of_each_type_is_rfc_8785(known: EventType) -> None:
    body = event(known.payload).payload
    assert body == rfc8785.dumps(msgspec.json.decode(body))


@by_tag
def test_what_is_decoded_is_what_was_written(known: EventType) -> None:
    assert codec.decode(recorded(known.payload)) == SAMPLES[known.payload]


def test_an_opening_of_the_former_release_has_no_folder() -> None:
    """Widened under its version (decision 34): what 0.1.0 wrote is read, and says nothing of a folder."""
    former = msgspec.json.decode(event(SAMPLES[SessionRequested]).payload)
    del former["host_dir"], former["host_dir_mac"]
    stored = msgspec.structs.replace(event(SAMPLES[SessionRequested]), payload=rfc8785.dumps(former))
    read = codec.decode(recorded(stored))
    assert isinstance(read, SessionRequested) and stored.schema_version == 1
    assert read == msgspec.structs.replace(SAMPLES[SessionRequested], host_dir=None, host_dir_mac=None)


def test_every_type_has_a_sample() -> None:
    assert set(SAMPLES) == set(get_args(Payload)) == {known.payload for known in KINDS}


@given(text=texts, number=st.none() | st.integers(0, 2**53 - 1))
def test_any_text_and_number_survives(text: str, number: int | None) -> None:
    written = payload(ExchangeCompleted, method=text, first_byte_us=number)
    data = event(written)
    assert data.payload == rfc8785.dumps(msgspec.json.decode(data.payload))
    assert codec.decode(recorded(data)) == written


def test_event_carries_its_envelope() -> None:
    data = codec.event(payload(SessionReady), actor=FRONTEND, occurred_at=MOMENT, cause=CAUSE)
    assert (data.type, data.schema_version, data.occurred_at) == ("session.ready", 1, MOMENT)
    assert (data.causation_id, data.correlation_id) == (CAUSE.causation_id, CAUSE.correlation_id)
    assert (data.trace_id, data.span_id) == (CAUSE.trace_id, CAUSE.span_id)
    assert data.event_id.version == 7
    assert codec.decode_actor(recorded(data)) == FRONTEND


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**15 * 10, 2**63])
def test_numbers_that_a_double_cannot_tell_apart_are_refused(number: int) -> None:
    """RFC 8785 writes numbers as doubles: another implementation would hash another leaf."""
    with pytest.raises(BadEvent, match="2\\^53"):
        event(SessionReady, boot_us=number)


def test_digits_in_a_text_are_no_number() -> None:
    text = ":12345678901234567890,[98765432109876543210"
    body = event(SessionFailed, detail=text).payload
    assert msgspec.json.decode(body)["detail"] == text
    assert event(SessionReady, boot_us=2**53 - 1).payload


def test_ids_are_new_for_each_event() -> None:
    assert len({event().event_id for _ in range(1000)}) == 1000


def test_payload_over_64_kib_is_refused() -> None:
    room = MAX_PAYLOAD_BYTES - len(event(SessionFailed, detail="").payload)
    assert len(event(SessionFailed, detail="x" * room).payload) == MAX_PAYLOAD_BYTES
    with pytest.raises(EventTooLarge):
        event(SessionFailed, detail="x" * (room + 1))


@pytest.mark.parametrize("hours", [-11, 0, 2])
def test_times_are_written_in_utc(hours: int) -> None:
    """One moment has one spelling, else equal facts would have different bytes."""
    moment = MOMENT.astimezone(timezone(timedelta(hours=hours)))
    data = event(TokenIssued, expires_at=moment)
    assert msgspec.json.decode(data.payload)["expires_at"] == "2026-01-18T22:29:04Z"


def test_time_without_a_zone_is_refused() -> None:
    """It would be read as UTC by one reader and as local time by another."""
    naive = datetime(2026, 1, 18)
    with pytest.raises(BadEvent):
        event(ApiKeyCreated, expires_at=naive)
    with pytest.raises(BadEvent):
        event(occurred_at=naive)
    assert event(ApiKeyCreated, expires_at=None)


def test_text_that_is_not_unicode_is_refused() -> None:
    """File names hold lone surrogates; they go into sealed fields, which take them."""
    with pytest.raises(BadEvent):
        event(SessionFailed, detail="\udcff")
    with pytest.raises(BadEvent):
        event(actor=Actor(kind=ActorKind.KEY, id="\ud800"))


def test_event_of_an_unknown_type_cannot_be_made() -> None:
    class Teleported(msgspec.Struct, frozen=True, tag="session.teleported"):
        to: str

    with pytest.raises(BadEvent):
        event(Teleported("mars"))  # type: ignore[arg-type]  # the fault under test


@pytest.mark.parametrize(("tag", "version"), [("session.teleported", 1), ("session.ready", 2), ("session.ready", 900)])
def test_type_or_version_of_a_later_release_is_unknown(tag: str, version: int) -> None:
    """A gateway of the former release reads the log of a newer one during an upgrade, and folds pass over it."""
    data = msgspec.structs.replace(event(SessionReady), type=tag, schema_version=version, payload=b"whatever")
    assert codec.decode(recorded(data)) == codec.Unknown(tag, b"whatever")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"type":"session.ready"}', b"\xff", b'{"type":"x"}'])
@pytest.mark.parametrize("version", [1, 0, -1])
def test_damaged_bytes_are_a_value_that_folds_pass_over(body: bytes, version: int) -> None:
    data = msgspec.structs.replace(event(SessionReady), payload=body, schema_version=version)
    assert isinstance(read := codec.decode(recorded(data)), codec.Unreadable)
    assert (read.tag, read.raw) == ("session.ready", body) and read.problem


@pytest.mark.parametrize("who", [b"", b"{}", b'{"kind":"archangel","id":"x"}', b"\xff"])
def test_actor_that_nobody_knows_is_unreadable(who: bytes) -> None:
    read = codec.decode_actor(recorded(msgspec.structs.replace(event(), actor=who)))
    assert isinstance(read, codec.UnreadableActor) and (read.kind, read.raw) == (ActorKind.ANONYMOUS, who)


def nested(depth: int, before: bytes = b'{"session_id":"a","x":', after: bytes = b"}") -> bytes:
    return before + b"[" * depth + b"]" * depth + after


def _below(frames: int, data: RecordedEvent) -> Payload | codec.Unknown:
    return codec.decode(data) if frames == 0 else _below(frames - 1, data)


@pytest.mark.parametrize("depth", [10, codec.MAX_DEPTH - 1, codec.MAX_DEPTH, 900, 30_000])
def test_how_deep_is_too_deep_does_not_depend_on_the_caller(depth: int) -> None:
    """A stack that is nearly full, or nearly empty: two folds of one log must pass over the same events."""
    good = event(SessionReady).payload
    data = recorded(msgspec.structs.replace(event(SessionReady), payload=nested(depth, good[:-1] + b',"x":')))
    read = codec.decode(data)
    assert isinstance(read, codec.Unreadable) == (depth >= codec.MAX_DEPTH)
    assert _below(500, data) == read
    assert (codec.fields_of(data.payload) is None) == (depth >= codec.MAX_DEPTH)


def test_brackets_within_texts_nest_nothing() -> None:
    text = '[{"\\' * 300
    data = event(SessionFailed, detail=text)
    assert codec.decode(recorded(data)) == payload(SessionFailed, detail=text)
    assert not codec.is_deep(b"[]" * 5_000)


@given(body=st.binary(max_size=60), tag=st.sampled_from([known.tag for known in KINDS]), version=st.integers(-1, 2))
def test_no_bytes_at_all_stop_a_reader(body: bytes, tag: str, version: int) -> None:
    data = msgspec.structs.replace(event(), type=tag, schema_version=version, payload=body, actor=body)
    codec.decode(recorded(data))
    codec.decode_actor(recorded(data))
    assert codec.fields_of(body) is None or body.lstrip().startswith(b"{")


def test_field_that_a_later_release_added_is_passed_over() -> None:
    data = event(SessionReady)
    more = codec.canonical({**msgspec.json.decode(data.payload), "mood": "good"})
    assert codec.decode(recorded(msgspec.structs.replace(data, payload=more))) == SAMPLES[SessionReady]


def test_leaf_is_rfc_8785_of_every_field() -> None:
    one = recorded(event(SessionRequested, actor=FRONTEND, cause=CAUSE), position=9, version=2)
    leaf = codec.leaf_bytes(one)
    fields = msgspec.json.decode(leaf)
    assert leaf == rfc8785.dumps(fields)
    assert set(fields) == {"leaf", *one.__struct_fields__}
    assert (fields["payload"], fields["actor"]) == (one.payload.decode(), one.actor.decode())


@given(st.data())
def test_leaf_changes_with_every_field(data: st.DataObject) -> None:
    """Whatever differs between two recorded events differs in what is hashed."""
    one = recorded(event(cause=CAUSE))
    other = recorded(event(SessionReady, actor=FRONTEND), position=2, version=3, stream_id="session-s2")
    other = msgspec.structs.replace(
        other,
        schema_version=2,
        log_id=other.event_id,
        occurred_at=MOMENT + timedelta(microseconds=1),
        recorded_at=MOMENT + timedelta(microseconds=2),
    )
    name = data.draw(st.sampled_from(one.__struct_fields__))
    assert getattr(one, name) != getattr(other, name)
    assert codec.leaf_bytes(msgspec.structs.replace(one, **{name: getattr(other, name)})) != codec.leaf_bytes(one)


def test_leaf_of_bytes_that_are_no_text_is_unreadable() -> None:
    """Only somebody who wrote around the gateway can have put them there; a verifier must say where."""
    with pytest.raises(UnreadableEvent, match="position 7"):
        codec.leaf_bytes(recorded(msgspec.structs.replace(event(), payload=b"\xff"), position=7))


@pytest.mark.parametrize("offset", [timedelta(0), timedelta(hours=-5)])
def test_timestamp_has_six_digits_and_z(offset: timedelta) -> None:
    moment = datetime(2026, 1, 18, 22, 29, 4, 7, UTC).astimezone(timezone(offset))
    assert codec.timestamp(moment) == "2026-01-18T22:29:04.000007Z"


def test_assurance_of_an_actor_without_person_is_none() -> None:
    assert codec.decode_actor(recorded(event(actor=GATEWAY))).assurance is Assurance.NONE


@pytest.mark.parametrize(
    "moment",
    [
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ],
)
def test_a_time_that_utc_cannot_name_is_refused(moment: datetime) -> None:
    """At both ends of the calendar, in the payload and around it; the ends themselves are times."""
    with pytest.raises(BadEvent, match="beyond the years"):
        event(ApiKeyCreated, expires_at=moment)
    with pytest.raises(BadEvent, match="beyond the years"):
        codec.event(payload(ApiKeyCreated), actor=GATEWAY, occurred_at=moment)
    end = moment.replace(tzinfo=UTC)
    assert codec.event(payload(ApiKeyCreated, expires_at=end), actor=GATEWAY, occurred_at=end).occurred_at == end
