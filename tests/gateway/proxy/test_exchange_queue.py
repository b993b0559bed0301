"""The order of records on their way: what steps aside keeps the order of its container, and no other from going on."""

from gateway.proxy.exchange_queue import ExchangeQueue
from gateway.proxy.exchange_records import Record
from tests.gateway.proxy.test_exchange_sums import record


def queue(*records: Record, capacity: int = 100) -> ExchangeQueue:
    made = ExchangeQueue(capacity)
    for each in records:
        made.put(each)
    return made


def test_the_oldest_are_taken_first_and_put_back_before_the_others() -> None:
    one, two, three = record(), record(), record()
    made = queue(one, two, three)
    assert made.take(2) == [one, two]
    made.put_back([one, two])
    assert made.take(9) == [one, two, three]
    assert made.take(9) == []


def test_what_is_aside_holds_up_its_container_alone() -> None:
    waits, later, other = record("a"), record("a"), record("b")
    made = queue()
    made.set_aside(waits)
    assert made.is_held_up(later) and not made.is_held_up(other)
    assert (made.ready, made.aside) == (0, 1)


def test_those_aside_come_back_before_what_came_later() -> None:
    first, second, later = record("a"), record("b"), record("a")
    made = queue(first, second)
    for each in made.take(2):
        made.set_aside(each)
    made.put(later)
    made.return_those_aside()
    assert not made.is_held_up(later)
    assert made.take(9) == [first, second, later]


def test_what_is_aside_has_its_place() -> None:
    """A session whose key cannot be had must not take memory without end."""
    made = queue(record(), record(), capacity=2)
    made.set_aside(*made.take(1))
    assert made.full and len(made) == 2
    assert len(made.take_those_aside()) == 1
    assert (len(made), made.aside) == (1, 0)
