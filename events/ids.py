"""Identifiers: UUIDv7 for new things, UUIDv5 for things that two observers must name alike (RFC 9562)."""

import os
import time
import uuid
from collections.abc import Callable

# Chosen once for this product (a random UUIDv4). Changing it would turn every repeat into a new event.
NAMESPACE = uuid.UUID("8d1c6f0e-52a4-4b0e-9f3b-0a6f7f4c2d19")

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def uuid7(now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> uuid.UUID:
    """A UUIDv7 (RFC 9562, 5.7): Unix milliseconds, then 74 random bits. New keys fill an index from the right."""
    value = (now_ms() & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def named(*parts: str) -> uuid.UUID:
    """The UUIDv5 of ``parts``: equal for equal parts on every machine, so that a second telling is a duplicate.

    Parts are length-prefixed: ``("a", "bc")`` and ``("ab", "c")`` are two names.
    """
    return uuid.uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts))


def short(value: bytes | None = None) -> str:
    """26 characters of Crockford's base 32 (lower case) from 16 bytes; random and time-ordered when none are given."""
    number = int.from_bytes(value if value is not None else uuid7().bytes, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -5, -5))
