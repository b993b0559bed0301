"""Exchange queue: records on their way into the log. Those that cannot be sealed yet step aside, and nobody waits
behind them but the later records of the same container, which must not overtake."""

from collections import deque
from collections.abc import Sequence

from gateway.proxy.exchange_records import Record


class ExchangeQueue:
    """At most ``capacity`` records are taken; what is put back or set aside has its place."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ready: deque[Record] = deque()
        self._aside: deque[Record] = deque()
        self._containers: set[str] = set()  # of those aside

    def __len__(self) -> int:
        return len(self._ready) + len(self._aside)

    @property
    def full(self) -> bool:
        return len(self) >= self._capacity

    @property
    def ready(self) -> int:
        """How many can be taken."""
        return len(self._ready)

    @property
    def aside(self) -> int:
        """How many wait for a key."""
        return len(self._aside)

    def put(self, record: Record) -> None:
        self._ready.append(record)

    def take(self, most: int) -> list[Record]:
        """The oldest, in their order."""
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def put_back(self, records: Sequence[Record]) -> None:
        """What was taken and not written: the oldest again."""
        self._ready.extendleft(reversed(records))

    def is_held_up(self, record: Record) -> bool:
        """Whether an older record of its container is aside, so that it must go there too."""
        return record.exchange.container in self._containers

    def set_aside(self, record: Record) -> None:
        self._aside.append(record)
        self._containers.add(record.exchange.container)

    def return_those_aside(self) -> None:
        """Before all others, as they are the oldest."""
        self.put_back(self.take_those_aside())

    def take_those_aside(self) -> list[Record]:
        taken = list(self._aside)
        self._aside.clear()
        self._containers.clear()
        return taken
