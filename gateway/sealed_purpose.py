"""Sealed purpose: why somebody read one session, sealed for the person whose session it is.

So an erasure takes it with everything else that was said of that person. Where nobody's session is read it stands in
the log in clear, and a reader must name nobody there (``docs/auditor.md``).
"""

from typing import Final

from events.catalogue import LogRead
from events.envelope import SYSTEM, Sealed
from events.registry import tags
from events.sealing import Place, SubjectKey, seal
from gateway.recorder import Recorder, session_key
from projections.session_state import SessionState

(_TAG,) = tags(LogRead)
PLACE: Final = Place(SYSTEM, _TAG, "purpose")


def lost(purpose: str | None) -> Sealed | None:
    """The purpose of reading a session of which the log knows no owner: sealed with a key that nobody keeps."""
    return None if purpose is None else seal(SubjectKey.new(), purpose, PLACE)


async def sealed(recorder: Recorder, purpose: str | None, session: SessionState | None) -> Sealed | str | None:
    """``purpose`` as ``log.read`` holds it. Raises StoreUnavailable when the subject's key cannot be had.

    After the subject's erasure it is sealed with a key that nobody keeps, as everything of the session is then.
    """
    if purpose is None or session is None:
        return purpose
    owner_key = None if session.owner is None else session.owner.k
    return seal(await session_key(recorder.keyring, session.session_id, owner_key), purpose, PLACE)
