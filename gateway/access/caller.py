"""Caller: who asks for a control route, found by the bearer key; and the denials, each of them an event."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import HTTPConnection

from events.catalogue import AccessDenied
from events.codec import Cause
from events.envelope import SYSTEM, ActorKind, Sealed
from events.errors import StoreUnavailable
from gateway.access import keys
from gateway.access.roles import Role
from gateway.errors import Refused
from gateway.outages import Outages
from gateway.recorder import Recorder, Who, unattributed
from projections.session_state import SessionState
from projections.views import Views

ON_BEHALF_OF: Final = "x-on-behalf-of"
MAX_PERSON_CHARACTERS: Final = 200
# What no newer event could lift.
FINAL: Final = frozenset({"expired-credential", "revoked-credential", "origin-refused"})
security = logging.getLogger("session_gateway.security")


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A recognised key."""

    key_id: str
    name: str
    role: Role
    person: str | None = None  # whom the caller acts for, as it says

    @property
    def who(self) -> Who:
        return Who(kind=ActorKind.KEY, id=self.name, key_id=self.key_id, person=self.person)

    def may_see(self, state: SessionState) -> bool:
        """Frontends see what they opened; auditors and operators see every session (row E7)."""
        return self.role is not Role.FRONTEND or state.opened_by == self.key_id


def bearer(connection: HTTPConnection) -> str | None:
    """The credential of an ``Authorization: Bearer`` header."""
    scheme, _, credential = connection.headers.get("authorization", "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


def _person(connection: HTTPConnection) -> str | None:
    """The header's bytes as UTF-8, so that a name is sealed, found and erased as it is written. Raises Refused."""
    try:
        person = connection.headers.get(ON_BEHALF_OF, "").encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("bad-request", "X-On-Behalf-Of must be UTF-8.") from None
    if len(person) > MAX_PERSON_CHARACTERS:
        raise Refused("bad-request", f"X-On-Behalf-Of may have {MAX_PERSON_CHARACTERS} characters.")
    return person or None


class Access:
    """Recognises callers and tells denials."""

    def __init__(self, recorder: Recorder, views: Views, cause: Callable[[], Cause], outages: Outages) -> None:
        self._recorder = recorder
        self._views = views
        self._cause = cause
        self._outages = outages

    async def caller(
        self, connection: HTTPConnection, allowed: frozenset[Role], *, always: bool = False, look: bool = True
    ) -> Caller:
        """The caller, when its key has one of the ``allowed`` roles. Raises Refused; a denial is told by ``deny``.

        ``always``: also when this process can no longer know whether the key was revoked. ``look``: before a key is
        refused, at the head of the log, which may take as long as a log that is away is waited for.
        """
        presented = bearer(connection)
        if presented is None:
            raise Refused("no-credential", "Send an API key: Authorization: Bearer gwk_...")
        found = keys.check(presented, self._views, self._recorder.now())
        if isinstance(found, Refused) and look and await self.news(found):
            found = keys.check(presented, self._views, self._recorder.now())
        if isinstance(found, Refused):
            raise found
        if found.role not in allowed:  # also one that only a later release knows
            raise Refused("wrong-role", f"The role {found.role} may not do that; {' or '.join(sorted(allowed))} may.")
        if not always:
            self._outages.refuse_stale()
        return Caller(key_id=found.key_id, name=found.name, role=Role(found.role), person=_person(connection))

    async def session(self, session_id: str, caller: Caller) -> SessionState:
        """A session that the caller may see. Another frontend's answers as if it did not exist. Raises Refused."""
        state, unknown = self._views.sessions.get(session_id), Refused("session-unknown", "No such session.")
        if state is None and await self.news(unknown):
            state = self._views.sessions.get(session_id)
        if state is None:
            raise unknown
        if not caller.may_see(state):
            raise Refused("session-unknown", "No such session.", denial="not_owner")
        return state

    async def news(self, refusal: Refused) -> bool:
        """Whether the log had something new since this process decided on ``refusal``: decide again.

        While the log is away nobody is told 401 or 404 for what it may know better: raises Refused (503), which is a
        denial when ``refusal`` is one.
        """
        try:
            return await self._views.catch_up_to_head()
        except StoreUnavailable as away:
            if refusal.slug in FINAL:
                return False
            detail = "The event log cannot be reached at the moment, and without it this cannot be decided."
            raise Refused("store-unavailable", detail, retry_after=1, denial=refusal.denial) from away

    async def deny(
        self,
        refusal: Refused,
        *,
        method: str,
        route: str,
        who: Who,
        session_id: str | None = None,
        client: str | None = None,
    ) -> None:
        """Tell a denial: in the security log, and as an event that is durable before the caller is answered.

        While the log is away the event waits in the spool. Without room there, for strangers or at all, the caller is
        refused all the same; the security log has it.
        """
        reason = refusal.denial or refusal.slug.replace("-", "_")
        security.warning(
            "access denied: %s",
            reason,
            extra={"operation": "access_denied", "session_id": session_id, "route": route, "method": method},
        )
        if who.kind is ActorKind.ANONYMOUS and not self._outages.has_room_for_stranger():
            return
        try:
            denied = AccessDenied(
                reason=reason,
                status=refusal.status,
                method=method,
                route=route,
                session_id=session_id,
                client=await self._sealed_client(client, self._recorder.now()),
            )
            await self._recorder.fact(SYSTEM, denied, who=who, cause=self._cause())
        except StoreUnavailable:
            security.error("a denial could not be written to the event log", extra={"operation": "access_denied"})

    def presumed(self, connection: HTTPConnection) -> Who:
        """Who a refused caller is: a key that proved itself (though revoked, expired or of another role), or nobody.

        A key id alone proves nothing: whoever guesses one must not appear in the log as its holder.
        """
        known = keys.proved(bearer(connection) or "", self._views)
        if known is None:
            return Who(kind=ActorKind.ANONYMOUS, id="unknown")
        return Who(kind=ActorKind.KEY, id=known.name, key_id=known.key_id)

    async def _sealed_client(self, client: str | None, now: datetime) -> Sealed | None:
        """None also when the key of the day cannot be had: a denial is told without the address rather than not."""
        if client is None:
            return None
        try:
            return await self._recorder.sealed(unattributed(now), client, SYSTEM, "access.denied", "client")
        except StoreUnavailable:
            security.warning("a denial is told without the client's address, whose key cannot be had")
            return None
