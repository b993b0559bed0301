"""Old payloads to new: one small function from each ``schema_version`` to the next, applied when an event is read.

What is stored never changes; what a reader gets is always the newest shape.
"""

from collections.abc import Callable
from typing import Any, Final

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _unchanged(payload: dict[str, Any]) -> dict[str, Any]:
    """The newer shape only has more fields, and their defaults say what was known then."""
    return payload


UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {
    ("exchange.summarized", 1): _unchanged,
    ("log.read", 1): _unchanged,
}


def upcast(tag: str, version: int, newest: int, payload: dict[str, Any]) -> dict[str, Any]:
    """Walk ``payload`` from ``version`` up to ``newest``."""
    for step in range(version, newest):
        payload = UPCASTERS[tag, step](payload)
    return payload
