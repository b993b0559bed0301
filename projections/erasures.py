"""The projection ``erasures``: whose keys were destroyed. What is still kept of them outside the log has to go too."""

from typing import Final
from uuid import UUID

import msgspec

from events.catalogue import Payload, SubjectErased
from events.envelope import RecordedEvent
from events.registry import tags

KEY: Final = "erased"


class Erased(msgspec.Struct, frozen=True):
    """Key ids of erased subjects, which name nobody, and of sessions that were their own, each with its event."""

    key_ids: dict[str, UUID] = {}


class Erasures:
    """One state for the whole system, under the key ``erased``."""

    name: Final = "erasures"
    version: Final = 1
    types: Final = tags(SubjectErased)

    def key(self, payload: Payload) -> str | None:
        return KEY if isinstance(payload, SubjectErased) else None

    def evolve(self, state: Erased | None, event: RecordedEvent, payload: Payload) -> Erased | None:
        before = state or Erased()
        if not isinstance(payload, SubjectErased):
            return state
        return Erased(dict.fromkeys(payload.key_ids, UUID(int=event.event_id.int)) | before.key_ids)
