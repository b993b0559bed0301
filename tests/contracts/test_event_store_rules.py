"""What every backend shares of the contract: names of types, expectations as numbers, and questions without sense."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from events.envelope import ANY, NEW, Fence
from events.errors import BadEvent
from events.store import Conflict, EventStore, check_unit, expected_number, type_matches
from tests.contracts.stores import appended
from tests.factories import MOMENT, event, events, new_stream, raw, write


def test_expectations_are_numbers_for_the_database() -> None:
    assert [expected_number(one) for one in (NEW, ANY, 0, 7)] == [0, None, 0, 7]


@pytest.mark.parametrize("tag", ["", "session", "session.Ready", "a.b ", "a.b.c", "a.\0", "x" * 60 + ".y"])
def test_names_of_types_are_a_family_and_a_word(tag: str) -> None:
    with pytest.raises(BadEvent):
        check_unit([write("session-a", raw(type=tag))])


@pytest.mark.parametrize(
    ("tag", "types", "matches"),
    [
        ("session.ready", [], True),
        ("session.ready", ["session.ready"], True),
        ("session.ready", ["session.*"], True),
        ("session.ready", ["token.*", "session.ready"], True),
        ("session.ready", ["session"], False),
        ("session.ready", ["sess.*"], False),
        ("session.ready", ["session.read"], False),
        ("api_key.created", ["api_key.*"], True),
    ],
)
def test_types_match_by_tag_or_family(tag: str, types: list[str], matches: bool) -> None:
    assert type_matches(tag, types) is matches


IMPOSSIBLE = ["session-a\0b", "session-\ud800", "", "a stream"]


@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_what_no_event_can_have_is_not_found(event_store: EventStore, name: str) -> None:
    """A question of a client's; that the log was away would be told to everybody."""
    await appended(event_store, write(new_stream()))
    assert await event_store.read_stream(name) == []
    assert await event_store.read_log(stream_id=name) == []
    assert await event_store.read_log(types=[name]) == []
    assert event_store.status.available


async def test_type_that_no_event_can_have_hides_no_other(event_store: EventStore) -> None:
    stream = new_stream()
    await appended(event_store, write(stream, *events(2)))
    assert len(await event_store.read_log(stream_id=stream, types=["session.*", "a\0.b"])) == 2


async def test_ranges_begin_at_the_beginning_and_may_be_empty(event_store: EventStore) -> None:
    stream = new_stream()
    await appended(event_store, write(stream, *events(3)))
    for after in (-1, -(2**70)):
        assert len(await event_store.read_stream(stream, after=after)) == 3
        assert len(await event_store.read_log(after=after, stream_id=stream)) == 3
        assert (await event_store.read_log(after=after, limit=1))[0].position == 1
    for limit in (0, -1, -(2**70)):
        assert await event_store.read_stream(stream, limit=limit) == []
        assert await event_store.read_stream(stream, limit=limit, backwards=True) == []
        assert await event_store.read_log(limit=limit) == []
        assert await event_store.read_log(limit=limit, stream_id=stream) == []
    assert await event_store.read_stream(stream, after=2**70, limit=2**70) == []
    assert await event_store.read_log(after=2**70, limit=2**70) == []
    assert event_store.status.available


@pytest.mark.parametrize("version", [-(2**70), -1, 2**31, 2**70])
async def test_version_that_no_stream_can_be_at_is_a_conflict(event_store: EventStore, version: int) -> None:
    assert await event_store.append(write(stream := new_stream(), expected=version)) == Conflict(stream, 0)
    assert event_store.status.available


@pytest.mark.parametrize("fence", [Fence("a\0", 1), Fence("\ud800", 1), Fence("job", 2**63), Fence("job", -1)])
async def test_lease_that_nobody_can_hold_is_refused(event_store: EventStore, fence: Fence) -> None:
    with pytest.raises(BadEvent):
        await event_store.append(write(new_stream()), fence=fence)
    assert event_store.status.available


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
async def test_first_and_last_moment_are_no_time_of_an_event(event_store: EventStore, moment: datetime) -> None:
    """They would be read back as "infinity", without a zone; their neighbours are as they were."""
    with pytest.raises(BadEvent, match="before the first year or after the last"):
        await event_store.append(write(new_stream(), event(occurred_at=moment.replace(tzinfo=UTC))))
    near = moment.replace(tzinfo=UTC) + timedelta(microseconds=1 if moment == datetime.min else -1)
    await appended(event_store, write(stream := new_stream(), event(occurred_at=near)))
    assert [one.occurred_at for one in await event_store.read_stream(stream)] == [near]


async def test_moment_before_all_or_after_all_is_a_moment(event_store: EventStore) -> None:
    head = (await appended(event_store, write(new_stream()))).position
    for hours in (-14, 14):
        zone = timezone(timedelta(hours=hours))
        assert await event_store.position_at(datetime.min.replace(tzinfo=zone)) == 0
        assert await event_store.position_at(datetime.max.replace(tzinfo=zone)) >= head
    with pytest.raises(BadEvent, match="no zone"):
        await event_store.position_at(MOMENT.replace(tzinfo=None))
    assert event_store.status.available
