"""Sessions: open, see, stop, resume, show a token again."""

from datetime import timedelta
from typing import Final

import msgspec
from starlette.responses import Response

from docker import names
from events import codec, ids
from events.catalogue import SessionRequested, TokenIssued
from events.envelope import Sealed, session_stream
from gateway.access.tokens import sha256
from gateway.api import reads, session_list, shapes
from gateway.api.call import Call, answer
from gateway.api.shapes import CreateSession, SessionOpened
from gateway.errors import Refused
from gateway.recorder import Who, session_subject
from gateway.sessions import agent
from gateway.sessions.commands import Mint, OpenSession, ResumeSession, RevealToken, StopSession
from gateway.sessions.handler import Origin
from projections import asof
from projections.lifecycle import STATUS, Phase
from projections.session_state import SessionState

MAX_IDEMPOTENCY_KEY: Final = 255
_SETTLED: Final = frozenset({Phase.READY, Phase.FAILED, Phase.STOPPED})


async def create(call: Call) -> Response:
    """202 at once, or 201 when ready within ``Prefer: wait``. With ``Idempotency-Key`` a repeat is the same session."""
    wanted = await call.body(CreateSession)
    image = wanted.image or call.services.agent.default_image
    if not call.services.agent.allows(image):
        raise Refused("image-not-allowed", "This image may not be asked for; see SESSION_IMAGES_ALLOWED.")
    repeat_key = call.request.headers.get("idempotency-key")
    if repeat_key is not None and not 1 <= len(repeat_key) <= MAX_IDEMPOTENCY_KEY:
        raise Refused("bad-request", f"An Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY} characters.")
    repeat = call.services.tokens.repeat_id(call.caller.key_id, repeat_key) if repeat_key else None
    session_id = f"ses_{ids.short(repeat.bytes if repeat else None)}"
    known = call.services.views.sessions.get(session_id)
    if known is None:
        command = await _open_command(call, wanted, session_id, image=image, repeated=repeat is not None)
        await _check_folder(call, command, wanted.host_dir, command)
        handled = await call.services.handler.handle(
            command, Origin(who=_acting_for(call, wanted.owner), cause=call.cause, repeat=repeat)
        )
        known = handled.state
        if handled.changed:
            call.services.runner.open(session_id)
    if repeat is not None:
        await _same_request(call, known, wanted)
    return await _opened(call, session_id)


async def _open_command(
    call: Call, wanted: CreateSession, session_id: str, *, image: str, repeated: bool
) -> OpenSession:
    folders, folder = call.services.folders, wanted.host_dir
    owner = wanted.owner or call.caller.person
    subject = owner or session_subject(session_id)
    await call.services.keyring.key_for(subject)  # its exchanges must be sealed, also when the log is away by then
    metadata = None
    if wanted.metadata is not None:
        metadata = msgspec.json.encode(wanted.metadata, order="sorted").decode()
        if len(metadata.encode()) > shapes.MAX_METADATA_BYTES:
            raise Refused("invalid-body", f"metadata may have {shapes.MAX_METADATA_BYTES} bytes.")
    return OpenSession(
        session_id=session_id,
        container=names.container_name(),
        image=image,
        runtime=call.services.docker.runtime,
        volumes=agent.volume_names()[: 1 if folder else None],
        opened_by=call.caller.key_id,
        owner=await _sealed(call, subject, owner, session_id, "owner"),
        metadata=await _sealed(call, subject, metadata, session_id, "metadata"),
        host_dir=await _sealed(call, subject, folder, session_id, "host_dir"),
        host_dir_mac=folders.mac(folder) if folder else None,
        asked=await _sealed(call, subject, _body(call, wanted) if repeated else None, session_id, "asked"),
        instance=call.services.instance,
        mint=_mint(call, session_id),
    )


async def _check_folder(
    call: Call, command: OpenSession | ResumeSession, folder: str | None, session: OpenSession | SessionState
) -> None:
    """The daemon is asked only for what has a seat and is the caller's; what is granted unforeseen, its boot checks."""
    if folder is not None and call.services.handler.foreseen(command):
        await call.services.folders.check(folder, session)


async def _sealed(call: Call, subject: str, clear: str | None, session_id: str, field: str) -> Sealed | None:
    if clear is None:
        return None
    event_type = str(SessionRequested.__struct_config__.tag)
    return await call.services.recorder.sealed(subject, clear, session_stream(session_id), event_type, field)


def _mint(call: Call, session_id: str) -> Mint:
    tokens, now = call.services.tokens, call.services.recorder.now()
    hours = call.services.settings.sessions.session_token_expiry_hours

    def mint(serial: int) -> TokenIssued:
        return TokenIssued(
            session_id=session_id,
            serial=serial,
            sha256=sha256(tokens.token(session_id, serial)),
            secret_id=tokens.secret_id,
            expires_at=now + timedelta(hours=hours),
        )

    return mint


def _acting_for(call: Call, owner: str | None) -> Who:
    """The caller, on behalf of whom it says it acts for; else of the person the session is for."""
    return msgspec.structs.replace(call.caller.who, person=call.caller.person or owner)


def _body(call: Call, wanted: CreateSession) -> str:
    """What a repeated request must equal."""
    owner = wanted.owner or call.caller.person
    return codec.canonical(msgspec.structs.replace(wanted, owner=owner)).decode()


async def _same_request(call: Call, state: SessionState, wanted: CreateSession) -> None:
    """A repeated Idempotency-Key must come with the same body. Raises Refused, also when the subject was erased."""
    asked = await shapes.unsealed(state.asked, state, "asked", call.services.keyring)
    if asked != _body(call, wanted):
        raise Refused("idempotency-mismatch", "This Idempotency-Key was used before with another body.")


async def _opened(call: Call, session_id: str) -> Response:
    """The answer to open and resume, after the wait that the caller prefers."""
    views = call.services.views
    if seconds := call.wait_seconds():
        await views.wait_for(lambda: views.sessions[session_id].phase in _SETTLED, seconds)
    state = views.sessions[session_id]
    assert state.token is not None
    if state.token.secret_id != call.services.tokens.secret_id:
        raise Refused("secret-changed", "The session's token was made with another SESSION_TOKEN_SECRET; resume it.")
    opened = SessionOpened(
        session_id=session_id,
        status=STATUS[state.phase].value,
        position=state.position,
        token=call.services.tokens.token(session_id, state.token.serial),
        expires_at=state.token.expires_at,
        reason=state.reason,
        detail=state.detail,
        links=shapes.links(session_id),
    )
    status = 201 if state.phase is Phase.READY else 202
    return answer(opened, status, {"location": opened.links.self, "cache-control": "no-store"})


async def resume(call: Call) -> Response:
    """A stopped or failed session again, on its kept data: same id, next generation, new token."""
    state = await call.services.access.session(call.session_id, call.caller)
    command = ResumeSession(
        session_id=state.session_id,
        container=names.container_name(),
        runtime=call.services.docker.runtime,
        instance=call.services.instance,
        mint=_mint(call, state.session_id),
    )
    await _check_folder(call, command, await call.services.folders.name_of(state), state)
    await call.services.handler.handle(command, _origin(call))
    call.services.runner.open(state.session_id)
    return await _opened(call, state.session_id)


async def stop(call: Call) -> Response:
    """202 when the end has begun, 200 when it is over (also when it was already)."""
    state = await call.services.access.session(call.session_id, call.caller)
    handled = await call.services.handler.handle(StopSession(session_id=state.session_id), _origin(call))
    if handled.changed:
        call.services.runner.stop(state.session_id)
    views = call.services.views
    if seconds := call.wait_seconds():
        await views.wait_for(lambda: views.sessions[state.session_id].phase is not Phase.STOPPING, seconds)
    now = views.sessions[state.session_id]
    (view,) = await shapes.sessions_at_hand([now], call.services.keyring)
    return answer(view, 200 if now.phase is Phase.STOPPED else 202)


async def reveal(call: Call) -> Response:
    """The token in force again; an event."""
    state = await call.services.access.session(call.session_id, call.caller)
    await call.services.handler.handle(RevealToken(session_id=state.session_id), _origin(call))
    return await _opened(call, state.session_id)


async def show(call: Call) -> Response:
    """One session, now or as of a position or time, whose position ``As-Of-Position`` tells."""
    await call.catch_up()
    position = await session_list.then(call)
    state = await call.services.access.session(call.session_id, call.caller)
    if position is None:
        await reads.tell_sessions(call, "session", session_id=state.session_id)
    else:
        if reads.is_audit(call, "as_of"):
            reads.check(call, state.session_id)
        then = await asof.session_as_of(call.services.store, state.session_id, position)
        if then is None:
            raise Refused("session-unknown", f"The session did not exist at position {position}.")
        await reads.tell_sessions(call, "as_of", position, state.session_id)
        state = then
    (view,) = await shapes.sessions_at_hand([state], call.services.keyring)
    if position is None and (waits := call.services.runner.lines.places.get(state.session_id)) is not None:
        view = msgspec.structs.replace(view, waiting_place=waits.place)
    return answer(view, headers=_as_of(position))


async def list_all(call: Call) -> Response:
    """The caller's sessions, oldest first, now or as of a position or time; ``status`` filters, ``limit`` pages."""
    await call.catch_up()
    services, asked = call.services, await session_list.asked(call)
    position = services.views.position if asked.position is None else asked.position
    if asked.past:
        states = await services.lookbacks.sessions(position)
    else:
        states = shapes.in_order(services.views.sessions.values())
    seen, past = [state for state in states if call.caller.may_see(state)], asked.past
    if not asked.past and asked.position is not None:
        page, more, past = await session_list.page_gone_on(services.store, services.lookbacks, seen, asked)
    else:
        page, more = session_list.page_of(seen, asked)
    await reads.tell_sessions(call, "as_of" if past else "sessions", position)
    cursor = None
    if more:
        log_id, tokens = services.store.log_id, services.tokens
        cursor = session_list.cursor_behind(tokens, page[-1], asked, log_id=log_id, position=position)
    body = await session_list.document(page, services.keyring, position=position, cursor=cursor)
    return Response(body, headers=_as_of(position if asked.past else None), media_type="application/json")


def _as_of(position: int | None) -> dict[str, str] | None:
    return None if position is None else {"as-of-position": str(position)}


def _origin(call: Call) -> Origin:
    return Origin(who=call.caller.who, cause=call.cause)
