"""Purpose: why somebody reads one session, in the reader's words: what may be said. The commands load it too, so it needs
nothing; ``sealed_purpose`` makes of it what the log holds.
"""

from typing import Final

HEADER: Final = "X-Audit-Purpose"
MAX_CHARACTERS: Final = 500


def fault(purpose: str) -> str | None:
    """What is wrong with the text of a purpose, as the end of a sentence; None when it can be used."""
    if len(purpose) > MAX_CHARACTERS:
        return f"has {len(purpose)} characters; {MAX_CHARACTERS} are allowed"
    if not purpose.isprintable():
        return "must be one line of text that can be printed"
    return None
