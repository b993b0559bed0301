"""The projection ``admission``: who holds the seats. Its version is what the next grant expects."""

from typing import Final

import msgspec

from events.catalogue import AdmissionGranted, AdmissionReleased, Payload
from events.envelope import ADMISSION, RecordedEvent
from events.registry import tags

KEY: Final = ADMISSION


class Seats(msgspec.Struct, frozen=True):
    """Sessions that hold a seat, with the generation that took it."""

    version: int = 0
    taken: dict[str, int] = {}


class Admission:
    """One state for the whole system, under the key ``admission``."""

    name: Final = "admission"
    version: Final = 1
    types: Final = tags(AdmissionGranted, AdmissionReleased)

    def key(self, payload: Payload) -> str | None:
        return KEY if isinstance(payload, AdmissionGranted | AdmissionReleased) else None

    def evolve(self, state: Seats | None, event: RecordedEvent, payload: Payload) -> Seats | None:
        before = state or Seats()
        if event.version <= before.version:
            return state
        taken = dict(before.taken)
        match payload:
            case AdmissionGranted():
                taken[payload.session_id] = payload.generation
            case AdmissionReleased() if taken.get(payload.session_id) == payload.generation:
                del taken[payload.session_id]
            case _:
                pass  # a release told twice: the seat is free already
        return Seats(event.version, taken)
