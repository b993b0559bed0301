"""The projection ``erasures``: whose keys were destroyed. What is still kept of them outside the log has to go too."""

from typing import Final

import msgspec

from events.catalogue import Payload, SubjectErased
from events.envelope import RecordedEvent

KEY: Final = "erased"


class Erased(msgspec.Struct, frozen=True):
    """Key ids of erased subjects; they name nobody."""

    key_ids: frozenset[str] = frozenset()


class Erasures:
    """One state for the whole system, under the key ``erased``."""

    name: Final = "erasures"
    version: Final = 1

    def key(self, payload: Payload) -> str | None:
        return KEY if isinstance(payload, SubjectErased) else None

    def evolve(self, state: Erased | None, event: RecordedEvent, payload: Payload) -> Erased | None:
        before = state or Erased()
        return Erased(before.key_ids.union(payload.key_ids)) if isinstance(payload, SubjectErased) else state
