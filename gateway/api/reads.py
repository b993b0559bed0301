"""Reads: every reading of the log, or of sessions by somebody else than their frontend, is an event (``log.read``).

Who reads one session says why (``X-Audit-Purpose``), else nothing is read. What was refused, or could not be read, is
not told as read.
"""

from typing import Final
from uuid import UUID

import msgspec
from starlette.requests import Request

from events.catalogue import LogRead
from events.envelope import SYSTEM, Sealed
from gateway import purpose, sealed_purpose
from gateway.access.roles import Role
from gateway.api.call import Call
from gateway.errors import Refused
from projections.session_state import SessionState

_OF_OPERATORS: Final = ("as_of", "access_history", "timeline", "all_progress")


def given(request: Request) -> str | None:
    """The purpose that the reader gives, its bytes taken as UTF-8. Raises Refused."""
    try:
        return purpose.stated(request.headers.get(purpose.HEADER, "").encode("latin-1").decode())
    except UnicodeDecodeError:
        raise Refused("bad-request", f"{purpose.HEADER} must be UTF-8.") from None
    except purpose.BadPurpose as error:
        raise Refused("bad-request", f"{purpose.HEADER} {error}.") from None


def check(call: Call, session_id: str | None) -> None:
    """Before anything is read: whoever reads one session must have said why. Raises Refused."""
    demand(call, "one session" if session_id is not None else None)


def demand(call: Call, of: str | None) -> None:
    """The same of whatever needs a purpose; ``of`` says what is read, in words, or None. Raises Refused."""
    if given(call.request) is None and of is not None:
        most = purpose.MAX_CHARACTERS
        raise Refused("purpose-required", f"This reads {of}: say in {purpose.HEADER} why, in up to {most} characters.")


async def tell(call: Call, read: LogRead, event_id: UUID | None = None) -> None:
    """Append the reading, with its purpose. Raises Refused when it has none and needs one; StoreUnavailable."""
    check(call, read.session_id)
    await record(call, read, event_id)


async def record(call: Call, read: LogRead, event_id: UUID | None = None) -> None:
    """Append the reading of whoever need not say why, or has been asked already. Raises StoreUnavailable.

    What is read of one session is sealed for its owner, also where the log knows none.
    """
    why: Sealed | str | None = given(call.request)
    if read.session_id is not None:
        session = await _session(call, read.session_id)
        if session is None:
            why = sealed_purpose.lost(given(call.request))
        else:
            why = await sealed_purpose.sealed(call.services.recorder, given(call.request), session)
    told = msgspec.structs.replace(read, purpose=why)
    await call.services.recorder.fact(SYSTEM, told, who=call.caller.who, cause=call.cause, event_id=event_id)


async def tell_sessions(call: Call, what: str, position: int | None = None, session_id: str | None = None) -> None:
    """The same for sessions: an auditor is always recorded, an operator when looking back, at who read, or on at all.

    A frontend reads its own sessions, and an operator's daily look at them is no audit.
    """
    if is_audit(call, what):
        await tell(call, LogRead(what=what, until=position, session_id=session_id))


def is_audit(call: Call, what: str) -> bool:
    """Whether this reading of sessions is told."""
    role = call.caller.role
    return role is Role.AUDITOR or (role is Role.OPERATOR and what in _OF_OPERATORS)


async def _session(call: Call, session_id: str) -> SessionState | None:
    """As the log has it by now; None when there is no such session, and so nobody to seal anything for."""
    views = call.services.views
    if session_id not in views.sessions:
        await views.catch_up_to_head()
    return views.sessions.get(session_id)
