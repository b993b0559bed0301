"""Keys at hand: the subjects' keys that an outage will need, fetched before it.

Personal fields of denials, exchanges and stops are sealed while the log is away, and the keys lie where the log lies.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from events.keyring import Keyring
from gateway.recorder import session_subject, unattributed
from projections.lifecycle import SEATED
from projections.session_state import SessionState
from projections.views import Views

SECONDS: Final = 5.0  # cached keys cost nothing, so that this bounds how long a session of another gateway has none


class Wanted(msgspec.Struct, frozen=True):
    """Keys that must exist already, by id, and those that are made when there are none, by subject."""

    ids: frozenset[str]
    subjects: frozenset[str]


def wanted(sessions: Iterable[SessionState], erased: Collection[str], now: datetime) -> Wanted:
    """What live sessions are sealed with, and the strangers of today and tomorrow. Never a key that was destroyed."""
    live = [state for state in sessions if state.phase in SEATED and _key_id(state) not in erased]
    return Wanted(
        frozenset(key_id for state in live if (key_id := _key_id(state)) is not None),
        frozenset(
            [unattributed(now), unattributed(now + timedelta(days=1))]
            + [session_subject(state.session_id) for state in live if state.owner is None]
        ),
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
        needed = wanted(self._views.sessions.values(), self._views.erased, self._now())
        await self._keyring.keys(needed.ids)
        for subject in sorted(needed.subjects):
            await self._keyring.key_for(subject)
