"""Keys at hand: the subjects' keys that an outage will need, fetched before it.

Personal fields of denials, exchanges and stops are sealed while the log is away, and the keys lie where the log lies.
Who opens a session has its key before (``api/sessions``); every other process fetches it when it sees the opening.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from events.catalogue import Payload, SessionRequested, SessionResumed
from events.envelope import RecordedEvent
from events.keyring import Keyring
from gateway.recorder import session_subject, unattributed
from projections.lifecycle import SEATED
from projections.session_state import SessionState
from projections.views import Views

SECONDS: Final = 5.0  # cached keys cost nothing; in between only openings call for a round


class Wanted(msgspec.Struct, frozen=True):
    """Keys that must exist already, by id and by subject, and those that are made when there are none."""

    ids: frozenset[str]
    subjects: frozenset[str]
    made: frozenset[str]  # subjects, too


def wanted(sessions: Iterable[SessionState], erased: Collection[str], now: datetime) -> Wanted:
    """What live sessions are sealed with, and the strangers of today and tomorrow. Never a key that was destroyed."""
    live = [state for state in sessions if state.phase in SEATED and _key_id(state) not in erased]
    return Wanted(
        frozenset(key_id for state in live if (key_id := _key_id(state)) is not None),
        frozenset(session_subject(state.session_id) for state in live if state.owner is None),
        frozenset([unattributed(now), unattributed(now + timedelta(days=1))]),
    )


def _key_id(state: SessionState) -> str | None:
    sealed = state.owner or state.metadata
    return sealed.k if sealed else None


class KeysAtHand:
    """Keeps them in the keyring's cache; ``keyring.forget`` takes them out of it for good."""

    def __init__(self, keyring: Keyring, views: Views, now: Callable[[], datetime]) -> None:
        self._keyring = keyring
        self._views = views
        self._now = now

    async def run_once(self) -> None:
        """Raises StoreUnavailable: the next round tries again."""
        sessions = self._views.sessions
        seated = [sessions[session_id] for session_id in self._views.seats.taken if session_id in sessions]
        needed = wanted(seated, self._views.erased, self._now())
        await self._keyring.keys(needed.ids)
        for subject in sorted(needed.subjects):
            await self._keyring.key_of(subject)
        for subject in sorted(needed.made):
            await self._keyring.key_for(subject)


def follow_openings(poke: Callable[[], None]) -> Callable[[RecordedEvent, Payload], None]:
    """A hook of ``views.on_event``: the keys of a session that was opened anywhere are wanted now."""

    def follow(event: RecordedEvent, payload: Payload) -> None:
        if isinstance(payload, SessionRequested | SessionResumed):
            poke()

    return follow
