"""Purpose: why somebody reads one session, in the reader's words. Sealed for the person whose session it is.

So an erasure takes it with everything else that was said of that person. Where nobody's session is read it stands in
the log in clear, and a reader must name nobody there (``docs/auditor.md``).
"""

from typing import Final

from events.catalogue import LogRead
from events.envelope import SYSTEM, Sealed
from events.registry import tags
from events.sealing import Place, seal
from gateway.recorder import Recorder, session_key
from projections.session_state import SessionState

HEADER: Final = "X-Audit-Purpose"
MAX_CHARACTERS: Final = 500
(_TAG,) = tags(LogRead)
PLACE: Final = Place(SYSTEM, _TAG, "purpose")


def fault(purpose: str) -> str | None:
    """What is wrong with the text of a purpose, as the end of a sentence; None when it can be used."""
    if len(purpose) > MAX_CHARACTERS:
        return f"has {len(purpose)} characters; {MAX_CHARACTERS} are allowed"
    if not purpose.isprintable():
        return "must be one line of text that can be printed"
    return None


async def sealed(recorder: Recorder, purpose: str | None, session: SessionState | None) -> Sealed | str | None:
    """``purpose`` as ``log.read`` holds it. Raises StoreUnavailable when the subject's key cannot be had.

    After the subject's erasure it is sealed with a key that nobody keeps, as everything of the session is then.
    """
    if purpose is None or session is None:
        return purpose
    owner_key = None if session.owner is None else session.owner.k
    return seal(await session_key(recorder.keyring, session.session_id, owner_key), purpose, PLACE)
