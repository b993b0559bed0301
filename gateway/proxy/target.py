"""Path mode: ``/s/{session_id}/{path}`` as raw bytes to a session id and the bytes that the container is asked for.

One form decides: the raw path. Whatever a server decoded for routing is never looked at, so nothing can be routed as
one session and forwarded as another.
"""

import re
from typing import Final

import msgspec

from gateway.proxy.guard import Refusal
from gateway.proxy.headers import strip_auth_token

SESSION_ID = re.compile(rb"\Ases_[0-9a-z]{16,40}\Z")
_PREFIX: Final = b"/s/"

_ENCODED = Refusal(400, "bad-target", "The part of the path that names the session is encoded.", close=True)
_UNKNOWN = Refusal(404, "session-unknown", "No such session.")


class Target(msgspec.Struct, frozen=True):
    """Where a request goes."""

    session_id: str
    raw_target: bytes  # origin form, query included, as the container gets it


def parse(raw_path: bytes, query: bytes) -> Target | Refusal:
    """Split a path-mode target. Bytes after the session's segment are kept as they are, dots and escapes included.

    ``/s/{id}`` asks the container for ``/``. Our ``auth_token`` parameter is removed from the query.
    """
    if not raw_path.startswith(_PREFIX):
        return _ENCODED
    segment, slash, rest = raw_path[len(_PREFIX) :].partition(b"/")
    if not SESSION_ID.match(segment):
        return _ENCODED if b"%" in segment or b"\\" in segment or segment in (b".", b"..", b"") else _UNKNOWN
    query = strip_auth_token(query)
    raw_target = slash + rest or b"/"
    return Target(segment.decode(), raw_target + b"?" + query if query else raw_target)
