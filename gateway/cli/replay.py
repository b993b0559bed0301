"""``replay``: folds the log alone and prints what the gateway would answer, shaped by the same code. An event."""

from typing import Annotated

import msgspec
import typer

from events.catalogue import LogRead
from events.envelope import SYSTEM
from gateway import sealed_purpose
from gateway.api import shapes
from gateway.api.shapes import SessionList, SessionView
from gateway.cli import moments, printing
from gateway.cli.client import run, stated
from gateway.cli.direct import CLI, Direct, open_log
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import AsOf, FoldOf, Json, Purpose, Tz, family
from gateway.cli.sessions import show_all, show_one
from projections import asof
from projections.session_state import Sessions, SessionState

app = family("Fold the log alone: what is, or was, true.")


@app.command()
def replay(
    session: Annotated[str | None, typer.Option(metavar="ID", help="This session only.")] = None,
    as_of: AsOf = None,
    tz: Tz = None,
    fold: FoldOf = None,
    purpose: Purpose = None,
    json: Json = False,
) -> None:
    """Fold the log alone, with no gateway running or beside one, and print what is, or was, true.

    With --json it prints exactly what GET /sessions (with --session: GET /sessions/ID) answers at that position.
    Reading one session needs a --purpose.
    """
    purpose = stated(purpose)
    if session is not None and purpose is None:
        raise Failure(Exit.USAGE, "This reads one session: say with --purpose why. It is kept in the log.")
    then = moments.then(as_of, tz, fold)
    position, told = run(_replay(session, then.exact, purpose))
    if json:
        printing.document(told)
        return
    if then.exact is not None:
        printing.line(then.told(position))
    shaped = msgspec.to_builtins(told)
    if session is None:
        show_all(shaped, then.zone)
    else:
        show_one(shaped, then.zone)


async def _replay(
    session_id: str | None, moment: str | None, purpose: str | None
) -> tuple[int, SessionList | SessionView]:
    async with open_log(if_forked="warn") as log:
        position = await _position(log, moment)
        shown = await (_all(log, position) if session_id is None else _one(log, session_id, position))
        why = await sealed_purpose.sealed(log.recorder, purpose, await _now(log, session_id))
        read = LogRead(what="replay", until=position, session_id=session_id, purpose=why)
        await log.recorder.fact(SYSTEM, read, who=CLI)
        return position, shown


async def _position(log: Direct, moment: str | None) -> int:
    """Where to fold up to; ``moment`` is one that can be resolved."""
    store = log.storage.store
    return (await store.head()).position if moment is None else await asof.resolve(store, moment)


async def _now(log: Direct, session_id: str | None) -> SessionState | None:
    """The session by now: an owner that a look far back would not show has a right to the purpose too."""
    if session_id is None:
        return None
    return await asof.session_as_of(log.storage.store, session_id, (await log.storage.store.head()).position)


async def _all(log: Direct, position: int) -> SessionList:
    states = await asof.as_of(log.storage.store, Sessions(), position)
    seen = shapes.in_order(states.values())
    return SessionList(sessions=await shapes.sessions(seen, log.storage.keyring), position=position)


async def _one(log: Direct, session_id: str, position: int) -> SessionView:
    state = await asof.session_as_of(log.storage.store, session_id, position)
    if state is None:
        raise Failure(Exit.NEGATIVE, f"There was no session {printing.shown(session_id)} at position {position}.")
    (view,) = await shapes.sessions([state], log.storage.keyring)
    return view
