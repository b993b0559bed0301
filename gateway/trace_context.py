"""W3C Trace Context, level 1: the ``traceparent`` and ``tracestate`` headers, read strictly and written."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

Header = tuple[bytes, bytes]
TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
_SAMPLED: Final = 0x01
_PATTERN: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


class Remote(msgspec.Struct, frozen=True):
    """A span of somebody else: 16 and 8 bytes, neither all zero. ``state`` is passed on as it came."""

    trace_id: bytes
    span_id: bytes
    sampled: bool
    state: bytes = b""


def extract(headers: Iterable[Header]) -> Remote | None:
    """The caller's span (3.2): None when it is absent, said twice, or malformed."""
    lines = [(name, value) for name, value in headers if name in (TRACEPARENT, TRACESTATE)]
    told = [value for name, value in lines if name == TRACEPARENT]
    match = _PATTERN.fullmatch(told[0].strip(b" \t")) if len(told) == 1 else None
    if match is None or match[1] == b"ff" or (match[1] == b"00" and match[5] is not None):
        return None
    trace_id, span_id = bytes.fromhex(match[2].decode()), bytes.fromhex(match[3].decode())
    if not any(trace_id) or not any(span_id):
        return None
    state = b",".join(value for name, value in lines if name == TRACESTATE)
    return Remote(trace_id, span_id, bool(int(match[4], 16) & _SAMPLED), state)


def traceparent(trace_id: bytes, span_id: bytes, *, sampled: bool) -> bytes:
    """The header's value, version 00."""
    return b"00-%b-%b-%02x" % (trace_id.hex().encode(), span_id.hex().encode(), _SAMPLED if sampled else 0)


def without(headers: Sequence[Header], *names: bytes) -> list[Header]:
    """``headers`` without the lines called ``names`` (lower case), however those are written."""
    return [(name, value) for name, value in headers if name.lower() not in names]
