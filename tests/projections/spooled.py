"""A spool without a disk, as the overlay sees one."""

from collections.abc import Callable

from events import codec
from events.catalogue import Payload
from events.envelope import ANY, EventData, StreamWrite
from tests.factories import GATEWAY, MOMENT
from tests.projections.histories import stream_of


class Spooled:
    """Numbered writes that leave in order, each told to the hooks."""

    def __init__(self) -> None:
        self.writes: list[StreamWrite] = []
        self.replayed = 0
        self._hooks: list[Callable[[], None]] = []

    def pending(self, after: int = 0) -> tuple[StreamWrite, ...]:
        return tuple(self.writes[max(after, self.replayed) :])

    def on_spooled(self, hook: Callable[[], None]) -> None:
        self._hooks.append(hook)

    def put(self, payload: Payload, stream_id: str = "") -> EventData:
        """Spool one event, to the stream of its subject unless another one is named."""
        event = codec.event(payload, actor=GATEWAY, occurred_at=MOMENT)
        self.writes.append(StreamWrite(stream_id or stream_of(payload), ANY, (event,)))
        self._tell()
        return event

    def leave(self) -> StreamWrite:
        """The oldest write is in the log, or was refused by it."""
        self.replayed += 1
        self._tell()
        return self.writes[self.replayed - 1]

    def _tell(self) -> None:
        for hook in self._hooks:
            hook()
