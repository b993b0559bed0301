"""Follows: that somebody follows the log, or sessions, is told when it begins and when it ends.

Who follows reads what does not exist yet: a session that is opened later is read by them too. So its history has to
find those who had begun before it, and to know who of them had ended. The end is a ``log.read`` as the beginning is,
caused by it, that says up to where was sent. It waits for no reader and holds up no drain; of a process that is killed
it is missing.
"""

import asyncio
from typing import Final
from uuid import UUID

import msgspec

from events.catalogue import LogRead
from events.ids import uuid7
from gateway.api import reads
from gateway.api.call import Call

KINDS: Final = ("follow", "progress", "all_progress")  # the words for it in ``log.read``


class Follow:
    """One reader who follows from beyond ``read.after``. ``is_told`` is false for those whose readings are none."""

    def __init__(self, call: Call, read: LogRead, *, is_told: bool = True) -> None:
        self._call = call
        self._read = read
        self._is_told = is_told
        self._begun: UUID | None = None
        self._reached = read.after or 0

    async def begin(self) -> None:
        """Tell the beginning, with its purpose. Raises Refused when it has none and needs one; StoreUnavailable."""
        if not self._is_told:
            return
        begun = uuid7()
        try:
            await reads.tell(self._call, self._read, event_id=begun)
        except asyncio.CancelledError:
            self._begun = begun  # it may be in the log by now
            self.end()
            raise
        self._begun = begun

    def reach(self, position: int) -> None:
        """Everything up to ``position`` is sent from now on; told before it is, so that no end says too little."""
        self._reached = max(self._reached, position)

    def end(self) -> None:
        """Tell the end, once; nothing where nothing was begun. The person behind the key stands at the beginning."""
        begun, self._begun = self._begun, None
        if begun is None:
            return
        self._call.services.follow_ends.tell(
            msgspec.structs.replace(self._read, until=self._reached, purpose=None),
            who=msgspec.structs.replace(self._call.caller.who, person=None),
            cause=msgspec.structs.replace(self._call.cause, causation_id=begun),
        )
