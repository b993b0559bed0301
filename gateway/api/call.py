"""Call: one control request with its caller; reading its body and parameters, and answering in JSON.

``endpoint`` wraps a handler of the route table: it asks who calls, and turns every refusal into a problem answer and
every denial into an event, so that no handler can forget to.
"""

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from events.codec import Cause
from gateway import context, errors, names
from gateway.access.caller import Caller
from gateway.access.roles import Role
from gateway.errors import Refused
from gateway.proxy import client
from gateway.proxy.client import has_body
from gateway.proxy.target import SESSION_ID
from gateway.services import Services
from gateway.wording import misfit_of_body

T = TypeVar("T")
log = logging.getLogger("session_gateway.api")
_WAIT: Final = re.compile(r"\bwait=(\d{1,9})\b")
_NUMBER: Final = re.compile(r"\d{1,18}\Z", re.ASCII)
MAX_WAIT_SECONDS: Final = 120
REPEATABLE: Final = ("type",)  # parameters that may stand more than once
MAX_NAME: Final = 40  # characters of an unknown parameter's name that a refusal repeats


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler gets. ``caller`` is None on routes that need no key."""

    request: Request
    services: Services
    caller_or_none: Caller | None

    @property
    def caller(self) -> Caller:
        assert self.caller_or_none is not None, "the route table gives this route no role"
        return self.caller_or_none

    @property
    def session_id(self) -> str:
        return str(self.request.path_params["session_id"])

    @property
    def cause(self) -> Cause:
        return context.cause()

    def text(self, name: str) -> str | None:
        """A query parameter that stands once at most. Raises Refused."""
        given = self.request.query_params.getlist(name)
        if len(given) > 1:
            raise _given_again(name, len(given))
        return given[0] if given else None

    def number(self, name: str, default: int, *, most: int = 10**18) -> int:
        """A query parameter that is a whole number from 0. Raises Refused."""
        text = self.text(name)
        if text is None:
            return default
        if not _NUMBER.match(text) or int(text) > most:
            raise Refused("bad-request", f"The parameter {name} must be a whole number from 0 to {most}.")
        return int(text)

    def types(self) -> tuple[str, ...]:
        """The parameter ``type``, repeatable: a tag, or a family such as ``session.*``; each once. Raises Refused."""
        given = tuple(dict.fromkeys(self.request.query_params.getlist("type")))
        if not names.are_types(given):
            raise Refused(
                "bad-request",
                "The parameter type must be a type such as session.ready, or a family: session.*; "
                f"{names.MAX_TYPES} of them at most.",
            )
        return given

    async def known_position(self, position: int) -> None:
        """Refuse a position that the log has not reached: it is of another log, and what came here would be missed."""
        if position > self.services.views.position:
            head = (await self.services.store.head()).position
            if position > head:
                raise Refused("bad-request", f"The log ends at position {head}; {position} is of another log.")

    def wait_seconds(self) -> int:
        """``Prefer: wait=N`` (RFC 7240 section 4.3), at most MAX_WAIT_SECONDS; 0 without it."""
        match = _WAIT.search(self.request.headers.get("prefer", ""))
        return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0

    async def body(self, kind: type[T]) -> T:
        """The JSON body as ``kind``; an empty body is an empty object. Raises Refused."""
        raw = await self._raw_body()
        try:
            return msgspec.json.decode(raw or b"{}", type=kind)
        except msgspec.ValidationError as error:
            raise Refused("invalid-body", misfit_of_body(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("bad-json", f"The body is not JSON: {error}") from error
        except RecursionError as error:
            raise Refused("bad-json", "The body is nested too deeply.") from error

    async def _raw_body(self) -> bytes:
        most = self.services.settings.gateway.gateway_max_body_bytes
        declared = self.request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > most:
            raise Refused("body-too-large", f"A body of {declared} bytes; {most} are allowed.")
        raw = bytearray()
        async for chunk in self.request.stream():
            raw += chunk
            if len(raw) > most:
                raise Refused("body-too-large", f"The body is over the {most} bytes that are allowed.")
        self.request.state.body_read = True
        return bytes(raw)

    async def catch_up(self) -> None:
        """Honour ``min_position``: answer only from a state that holds it."""
        wanted = self.number("min_position", 0)
        head = (await self.services.store.head()).position if wanted > self.services.views.position else wanted
        if wanted > head:
            raise Refused("view-behind", f"The log ends at position {head}; {wanted} was asked for.", retry_after=1)
        await self.services.views.catch_up(wanted)


Handler = Callable[[Call], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def answer(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """``value`` as JSON."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def endpoint(
    handler: Handler,
    services: Services,
    roles: frozenset[Role],
    template: str,
    *,
    always: bool = False,
    query: tuple[str, ...] = (),
) -> Endpoint:
    """The handler as Starlette calls it. ``always``: for keys that may have been revoked unseen too.

    ``query``: the parameters that it knows. A caller who is recognised is told of any other: a filter that is misspelt
    and passed over would answer another question than was asked. Probes, which nobody has to sign, may add any.
    """

    async def called(request: Request) -> Response:
        context.set_route(template)
        try:
            caller = await services.access.caller(request, roles, always=always) if roles else None
            if roles:
                _refuse_parameters(request, query)
            return await handler(Call(request=request, services=services, caller_or_none=caller))
        except Exception as error:
            refusal = errors.refused(error)
            if refusal is None:
                raise
            if refusal is not error:
                log.warning("a request could not be served: %s", error, extra={"operation": template})
            return await _refuse(services, request, refusal, template)

    return called


def _refuse_parameters(request: Request, known: tuple[str, ...]) -> None:
    given = Counter(name for name, _ in request.query_params.multi_items())
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        told = f"it knows {', '.join(known)}" if known else "it knows none"
        raise Refused("bad-request", f"The parameter {unknown[:MAX_NAME]!r} is not known to this route: {told}.")
    twice = next((name for name, times in given.items() if times > 1 and name not in REPEATABLE), None)
    if twice is not None:
        raise _given_again(twice, given[twice])


def _given_again(name: str, times: int) -> Refused:
    return Refused("bad-request", f"The parameter {name} is given {times} times.")


async def _refuse(services: Services, request: Request, refusal: Refused, template: str) -> Response:
    services.outages.count(refusal)
    if refusal.denial is not None:
        await services.access.deny(
            refusal,
            method=request.method,
            route=template,
            who=services.access.presumed(request),
            session_id=_session_id(request),
            client=request.client.host if request.client else None,
        )
    return _ProblemResponse(refusal, unread=has_body(request.scope) and not hasattr(request.state, "body_read"))


def _session_id(request: Request) -> str | None:
    """The path's, when it can be one: the log keeps no text that anybody may choose."""
    given = str(request.path_params.get("session_id", ""))
    return given if SESSION_ID.match(given.encode()) else None


class _ProblemResponse(Response):
    """A refusal as an answer; a body that nobody read is read on for a while, else the answer would be lost."""

    def __init__(self, refusal: Refused, *, unread: bool) -> None:
        super().__init__(errors.body(refusal, context.request_id()), refusal.status)
        self.raw_headers.extend(errors.headers(refusal))
        self._unread = unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await client.answer(
            receive,
            send,
            status=self.status_code,
            headers=self.raw_headers,
            body=bytes(self.body),
            unread=self._unread,
        )
