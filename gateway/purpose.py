"""Purpose: why somebody reads one session, in the reader's words: what may be said.

The commands load it too, so it needs nothing; ``sealed_purpose`` makes of it what the log holds.
"""

from typing import Final

HEADER: Final = "X-Audit-Purpose"
MAX_CHARACTERS: Final = 500


class BadPurpose(ValueError):
    """The text says what is wrong, as the end of a sentence."""


def stated(text: str | None) -> str | None:
    """The purpose that is given, without the blanks around it; None where nothing is left. Raises BadPurpose."""
    purpose = (text or "").strip()
    if len(purpose) > MAX_CHARACTERS:
        raise BadPurpose(f"has {len(purpose)} characters; {MAX_CHARACTERS} are allowed")
    if not purpose.isprintable():
        raise BadPurpose("must be one line of text that can be printed")
    return purpose or None
