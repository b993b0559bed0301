"""The list of sessions: which is asked for, in whole or in pages, and its answer made piece by piece.

All pages of a list are of the position of its first one, so that nothing is missed and nothing stands twice, whatever
happens between two pages and whichever process answers. The cursor (``gateway/api/cursor.py``) names that position; it
is no credential: what a key may see is decided for every page. No process keeps anything of a reader between two pages.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from events.keyring import Keyring
from events.store import EventStore
from gateway.access.tokens import Tokens
from gateway.api import cursor as cursors
from gateway.api import shapes
from gateway.api.call import Call
from gateway.api.lookback import Lookbacks
from gateway.errors import Refused
from projections import asof, moment
from projections.lifecycle import STATUS, Status
from projections.moment import BadMoment
from projections.session_state import SessionState

MOST: Final = 1000  # sessions of a page
STEP: Final = 200  # sessions that are shaped and written at once: a few milliseconds
REREAD: Final = 100  # sessions that have changed since a list began, read one by one for a page of it
REREAD_SECONDS: Final = 1.0
OF: Final = "sessions"
_FOLDS: Final[dict[str | None, moment.Fold | None]] = {None: None, "first": "first", "second": "second"}


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the next page is a page of, and the session behind which it begins."""

    log_id: UUID
    position: int
    past: bool  # the reader looks back, and is recorded as one
    status: str | None
    limit: int
    created_at: datetime
    session_id: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """``position``: None is now. ``limit``: None is all of it. ``after``: created at, id."""

    position: int | None
    past: bool
    status: str | None
    limit: int | None
    after: tuple[datetime, str] | None = None


async def asked(call: Call) -> Asked:
    """What the query of ``GET /sessions`` asks for. Raises Refused."""
    limit = call.number("limit", 0, most=MOST) if call.text("limit") is not None else None
    if limit == 0:
        raise Refused("bad-request", f"The parameter limit is a whole number from 1 to {MOST}.")
    if (text := call.text("cursor")) is not None:
        return await _asked_by(call, text, limit)
    status = call.text("status")
    if status is not None and status not in set(Status):
        raise Refused("bad-request", f"The parameter status is one of {', '.join(Status)}.")
    position = await then(call)
    return Asked(position=position, past=position is not None, status=status, limit=limit)


async def _asked_by(call: Call, text: str, limit: int | None) -> Asked:
    said = [name for name in ("as_of", "tz", "fold", "status") if call.text(name) is not None]
    if said:
        raise Refused("bad-request", f"The cursor says {said[0]} already: send it with limit alone.")
    cursor = decode(call.services.tokens, text)
    if cursor.log_id != call.services.store.log_id:
        raise Refused("bad-cursor", "The cursor is of another log: begin again without it.")
    await call.known_position(cursor.position)
    await call.services.views.catch_up(cursor.position)
    return Asked(
        position=cursor.position,
        past=cursor.past,
        status=cursor.status,
        limit=limit or cursor.limit,
        after=(cursor.created_at, cursor.session_id),
    )


async def then(call: Call) -> int | None:
    """The position that ``as_of`` means, with ``tz`` and ``fold``; None without it. Raises Refused."""
    wanted, tz, chosen = call.text("as_of"), call.text("tz"), call.text("fold")
    if chosen not in _FOLDS:
        raise Refused("bad-request", "The parameter fold is first or second.")
    try:
        zone = None if tz is None else moment.zone(tz)
    except BadMoment as error:
        raise Refused("bad-request", f"tz: {error}.") from error
    if wanted is None:
        if tz is not None or chosen is not None:
            raise Refused("bad-request", "The parameters tz and fold say how as_of is meant, which is missing.")
        return None
    try:
        return await asof.resolve(call.services.store, wanted, zone, _FOLDS[chosen])
    except BadMoment as error:
        raise Refused("bad-request", f"as_of: {error}.") from error


def page_of(seen: Sequence[SessionState], asked: Asked) -> tuple[Sequence[SessionState], bool]:
    """The part of the list, which is in its order, that is asked for; and whether there is more behind it."""
    if asked.status is not None:
        seen = [state for state in seen if STATUS[state.phase] == asked.status]
    if asked.after is not None:
        seen = [state for state in seen if _place(state) > asked.after]
    if asked.limit is None:
        return seen, False
    return seen[: asked.limit], len(seen) > asked.limit


async def page_gone_on(
    store: EventStore, lookbacks: Lookbacks, seen: Sequence[SessionState], asked: Asked
) -> tuple[Sequence[SessionState], bool, bool]:
    """The next page of a list of now, as it was at the first one's position, from the states of now.

    And whether there is more, and whether it looked back: a state that no event has concerned since is still the same,
    the others are read from the log. Where that are many, or long ones, the log is folded once, in turn with others
    who look back. Raises Refused (503), StoreUnavailable.
    """
    assert asked.position is not None and asked.limit is not None and asked.after is not None
    found, reread, ends = list[SessionState](), 0, time.monotonic() + REREAD_SECONDS
    for state in seen:
        if _place(state) <= asked.after:
            continue
        then: SessionState | None = state
        if state.position > asked.position:
            if reread == REREAD or time.monotonic() > ends:
                known = {each.session_id for each in seen}
                folded = [each for each in await lookbacks.sessions(asked.position) if each.session_id in known]
                return *page_of(folded, asked), True
            reread += 1
            then = await asof.session_as_of(store, state.session_id, asked.position)
        if then is None or then.created_at is None or asked.status not in (None, STATUS[then.phase]):
            continue
        found.append(then)
        if len(found) > asked.limit:
            break
    return found[: asked.limit], len(found) > asked.limit, reread > 0


def cursor_behind(tokens: Tokens, last: SessionState, asked: Asked, *, log_id: UUID, position: int) -> str:
    """The cursor of the page that begins behind ``last``."""
    assert asked.limit is not None
    created_at, session_id = _place(last)
    cursor = Cursor(
        log_id=log_id,
        position=position,
        past=asked.past,
        status=asked.status,
        limit=asked.limit,
        created_at=created_at,
        session_id=session_id,
    )
    return cursors.encode(tokens, cursor, of=OF)


def decode(tokens: Tokens, text: str) -> Cursor:
    """The cursor that a page gave. Raises Refused."""
    cursor = cursors.decode(tokens, text, Cursor, of=OF)
    fits = cursor.created_at.tzinfo is not None and cursor.position >= 0 and 1 <= cursor.limit <= MOST
    if not fits or cursor.status not in {None, *Status}:
        raise Refused("bad-cursor", "This is no cursor of this list. Begin again without it.")
    return cursor


def _place(state: SessionState) -> tuple[datetime, str]:
    assert state.created_at is not None, "what was never requested is in no list"
    return state.created_at, state.session_id


async def document(states: Sequence[SessionState], keyring: Keyring, *, position: int, cursor: str | None) -> bytes:
    """The JSON of a ``SessionList``, made so that other requests have their turn: a list may have 100,000 sessions."""
    made = bytearray(b'{"sessions":[')
    for start in range(0, len(states), STEP):
        views: list[Any] = await shapes.sessions_at_hand(states[start : start + STEP], keyring)
        made += b"," if start else b""
        made += msgspec.json.encode(views)[1:-1]
        await asyncio.sleep(0)
    made += b'],"position":%d,"next":%b}' % (position, msgspec.json.encode(cursor))
    return bytes(made)
