"""Overlay: what this process has spooled and the log has not yet, folded on top of the states without touching them.

While Postgres is away a container still dies. The process that saw it shows it at once; every other one, and every
answer as of a position, when the log has it. Then the event folds into the states themselves and leaves the overlay.
"""

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import msgspec

from events import codec
from events.catalogue import ExchangeEvent, Payload
from events.envelope import EventData, RecordedEvent, StreamWrite
from projections.projection import Projection

S = TypeVar("S")
_BEYOND: Final = 2**62  # place of an event that has none yet: after everything that has


class Spool(Protocol):
    """What the overlay needs of ``events.fallback``: writes, numbered from 1 in the order they were spooled."""

    @property
    def replayed(self) -> int:
        """Up to which number they have left the spool: they are in the log, or were refused by it."""
        ...

    def pending(self, after: int = 0) -> tuple[StreamWrite, ...]:
        """Those still in the spool, beyond number ``after``."""
        ...

    def on_spooled(self, hook: Callable[[], None]) -> None:
        """Call ``hook`` whenever ``pending`` changed."""
        ...


class _Waiting(msgspec.Struct, frozen=True):
    """A spooled event. ``touches``: the states it concerns, as (number of the fold, key)."""

    number: int  # of its write
    event: RecordedEvent
    payload: Payload
    touches: tuple[tuple[int, str], ...]


class Overlay:
    """Spooled events over ``folds``. Empty almost always, and then nothing is looked up twice.

    Exchanges are left out: they come by the thousand and change nothing but figures.
    """

    def __init__(self, folds: Sequence[tuple[Projection[Any], dict[str, Any]]], log_id: UUID) -> None:
        self._folds = folds
        self._log_id = log_id
        self._taken = 0
        self._waiting: dict[UUID, _Waiting] = {}
        self._over: dict[tuple[int, str], dict[UUID, _Waiting]] = {}  # the same, by the state they concern
        self._states: tuple[dict[str, Any], ...] = tuple({} for _ in folds)

    def __len__(self) -> int:
        """Events that wait for the log."""
        return len(self._waiting)

    def shown(self, states: dict[str, S]) -> Mapping[str, S]:
        """One fold's ``states`` with what is spooled on top. Their ``version`` and ``position`` stay the log's."""
        above = next(above for (_, base), above in zip(self._folds, self._states, strict=True) if base is states)
        return ChainMap(above, states) if above else states

    def take(self, spool: Spool) -> None:
        """Put on top what was spooled since the last call."""
        begin = max(self._taken, spool.replayed)
        writes = spool.pending(after=begin)
        for number, write in enumerate(writes, start=begin + 1):
            for event in write.events:
                self._put(number, write.stream_id, event)
        self._taken = begin + len(writes)

    def passed(self, event: RecordedEvent, payload: Payload) -> None:
        """The tail has folded this event into the states: it, if it waited, leaves; what lay on them is folded anew."""
        if waited := self._waiting.get(event.event_id):
            self._remove(waited)
        for touched in self._touches(payload):
            if touched in self._over:
                self._fold_anew(*touched)

    def settle(self, number: int) -> None:
        """The states hold all of the log that writes up to ``number`` went to: what of them still waits never comes.

        It was in the log before it was spooled (an answer was lost), or the log has refused it.
        """
        for waited in [each for each in self._waiting.values() if each.number <= number]:
            self._remove(waited)

    def _put(self, number: int, stream_id: str, data: EventData) -> None:
        place = _BEYOND + len(self._waiting)
        event = RecordedEvent(
            log_id=self._log_id,
            stream_id=stream_id,
            version=place,
            position=place,
            recorded_at=data.occurred_at,
            **msgspec.structs.asdict(data),
        )
        payload = codec.decode(event)
        if isinstance(payload, codec.Unknown | ExchangeEvent) or data.event_id in self._waiting:
            return
        if not (touches := self._touches(payload)):
            return
        waiting = self._waiting[data.event_id] = _Waiting(number, event, payload, touches)
        for touched in touches:
            self._over.setdefault(touched, {})[data.event_id] = waiting
            self._fold_anew(*touched)

    def _remove(self, waited: _Waiting) -> None:
        del self._waiting[waited.event.event_id]
        for touched in waited.touches:
            del self._over[touched][waited.event.event_id]
            self._fold_anew(*touched)

    def _touches(self, payload: Payload) -> tuple[tuple[int, str], ...]:
        keys = ((nth, projection.key(payload)) for nth, (projection, _) in enumerate(self._folds))
        return tuple((nth, key) for nth, key in keys if key is not None)

    def _fold_anew(self, nth: int, key: str) -> None:
        projection, states = self._folds[nth]
        waiting, base = self._over.get((nth, key), {}), states.get(key)
        if not waiting:
            self._over.pop((nth, key), None)
        state = base
        for place, waited in enumerate(waiting.values(), start=_BEYOND):
            event = msgspec.structs.replace(waited.event, position=place, version=place)
            state = projection.evolve(state, event, waited.payload)
        if state is base or state is None:
            self._states[nth].pop(key, None)
        else:
            self._states[nth][key] = _placed(state, base)


def _placed(state: Any, base: Any) -> Any:
    """With the place in the log that is true: commands expect it, and readers resume from it."""
    places = {name: getattr(base, name, 0) for name in ("version", "position") if name in state.__struct_fields__}
    return msgspec.structs.replace(state, **places)
