"""``sessions``: open, see, watch, stop and resume sessions of a gateway that runs."""

import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.cli import moments, printing, steps
from gateway.cli.access_history import access_history
from gateway.cli.client import connected, header, run, segment, why
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import AsOf, FoldOf, Json, KeyFile, Purpose, Tz, Url, family
from gateway.cli.pages import SAY_SECONDS
from gateway.cli.timeline import timeline
from gateway.control import ANSWER_SECONDS, Answer, GatewayClient, ServerEvent

OPEN_SECONDS: Final = 120
LOOKBACK_SECONDS: Final = None
Query = Sequence[tuple[str, str | int]]
STATUSES: Final = ("creating", "running", "stopped", "error")
PAGE: Final = 1000
AS_OF_POSITION: Final = "as-of-position"
app = family("Open, see, watch, stop and resume sessions of a gateway that runs.")
Id = Annotated[str, typer.Argument(metavar="ID", help="A session's id, as ses_...", show_default=False)]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long to wait until it is ready.", min=0)]
StopWait = Annotated[
    int, typer.Option("--wait", metavar="SECONDS", help="How long to wait for its end.", min=0, max=120)
]
app.command("access-history")(access_history)
app.command()(timeline)
_COLUMNS: Final = ("session", "status", "generation", "image", "owner", "created", "last used", "reason")


@app.command("open")
def open_(
    image: Annotated[str | None, typer.Option(help="One of the images that may be asked for.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whom it is for; sealed in the log.")] = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="An object of your own; sealed.")] = None,
    host_dir: Annotated[str | None, typer.Option(help="Folder of HOST_DIR_ROOT that is the workspace; sealed.")] = None,
    wait: Wait = OPEN_SECONDS,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again: the same session again.")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Open a session and wait until it is ready; prints its token and a request to try."""
    body = {"image": image, "owner": owner, "metadata": _object(metadata), "host_dir": host_dir}
    given = {name: value for name, value in body.items() if value is not None}
    headers = {} if idempotency_key is None else {"idempotency-key": header("--idempotency-key", idempotency_key)}

    async def work() -> None:
        async with connected(url, key_file) as client:
            opened = msgspec.json.decode(await client.call("POST", "/sessions", body=given, headers=headers))
            await _until_ready(client, opened, wait, json)

    run(work())


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="Only these: creating, running, stopped or error.")] = None,
    limit: Annotated[int | None, typer.Option(help="How many at most; without it, all.", min=1, max=1000)] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on where a page ended.")] = None,
    as_of: AsOf = None,
    tz: Tz = None,
    fold: FoldOf = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """The sessions that the key may see, oldest first. All pages of a list are of one position."""
    if status is not None and status not in STATUSES:
        raise Failure(Exit.USAGE, f"--status: {status!r} is none of {', '.join(STATUSES)}.")
    if cursor is not None and (status is not None or as_of is not None):
        raise Failure(Exit.USAGE, "The cursor says --status and --as-of already: leave them out.")
    then = moments.then(as_of, tz, fold)
    given = {"status": status, "as_of": then.exact, "cursor": cursor, "limit": limit}
    query = [(name, value) for name, value in given.items() if value is not None]
    headers = why(purpose)
    if json:
        printing.document(run(_read("", query, headers, url, key_file)).body)
        return
    walk = limit is None and cursor is None
    first, found = run(_listed(query, headers, url, key_file, walk=walk))
    _show_position(then, first)
    show_all(found, then.zone)
    if found["next"] is not None:
        printing.note(f"There are more: go on with --cursor {found['next']}.")


async def _listed(
    query: Query, headers: dict[str, str], url: str | None, key_file: Path | None, *, walk: bool
) -> tuple[Answer, dict[str, Any]]:
    """The first answer, and the list: its page, or with ``walk`` all of them, which says how far it is."""
    async with connected(url, key_file) as client:
        said = time.monotonic()
        query = [*query, ("limit", PAGE)] if walk else query
        first = await client.ask("GET", "/sessions", query=query, headers=headers, seconds=LOOKBACK_SECONDS)
        found = msgspec.json.decode(first.body)
        while walk and found["next"] is not None:
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                printing.note(f"{printing.count(len(found['sessions']), 'session')} so far")
            query = [("cursor", found["next"])]
            page = msgspec.json.decode(
                await client.call("GET", "/sessions", query=query, headers=headers, seconds=LOOKBACK_SECONDS)
            )
            found |= {"sessions": found["sessions"] + page["sessions"], "next": page["next"]}
        return first, found


@app.command()
def show(
    session_id: Id,
    as_of: AsOf = None,
    tz: Tz = None,
    fold: FoldOf = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """One session, now or as of a position or time. An auditor, and who looks back, says why: --purpose."""
    then = moments.then(as_of, tz, fold)
    query: Query = [] if then.exact is None else [("as_of", then.exact)]
    answer = run(_read(f"/{segment(session_id)}", query, why(purpose), url, key_file))
    if json:
        printing.document(answer.body)
        return
    _show_position(then, answer)
    show_one(msgspec.json.decode(answer.body), then.zone)


@app.command()
def stop(session_id: Id, wait: StopWait = 0, url: Url = None, key_file: KeyFile = None, json: Json = False) -> None:
    """Stop a session; its data is kept. With --wait, exit code 1 when it has not ended by then."""
    prefer = {"prefer": f"wait={wait}"} if wait else {}
    answer = run(_call("DELETE", session_id, "", url, key_file, headers=prefer, seconds=wait + 30.0))
    session = msgspec.json.decode(answer)
    if json:
        printing.document(answer)
    else:
        printing.line(f"{session['session_id']} is {session['phase']}.")
    if wait and session["phase"] != "stopped":
        raise typer.Exit(Exit.NEGATIVE)


@app.command()
def resume(
    session_id: Id, wait: Wait = OPEN_SECONDS, url: Url = None, key_file: KeyFile = None, json: Json = False
) -> None:
    """Start a stopped or failed session again on its kept data, with a new token."""

    async def work() -> None:
        async with connected(url, key_file) as client:
            answer = await client.call("POST", f"/sessions/{segment(session_id)}/resume")
            await _until_ready(client, msgspec.json.decode(answer), wait, json)

    run(work())


@app.command()
def token(session_id: Id, url: Url = None, key_file: KeyFile = None, json: Json = False) -> None:
    """Show a session's token again; the log keeps that you did."""

    async def work() -> None:
        async with connected(url, key_file) as client:
            answer = await client.call("POST", f"/sessions/{segment(session_id)}/token")
            if json:
                printing.document(answer)
            else:
                _show_opened(client, msgspec.json.decode(answer))

    run(work())


@app.command()
def watch(
    session_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One session from its first step.")] = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Follow the steps of one session from its first, or of all that the key may see from now on; ends with Ctrl-C."""
    headers = why(purpose)

    async def work() -> None:
        async with connected(url, key_file) as client:
            path = "/sessions/stream" if session_id is None else f"/sessions/{segment(session_id)}/progress"
            # Where it begins is asked first: a connection that drops before its first event is resumed from there.
            query = [("after", await position_now(client))] if session_id is None else []
            followed = client.follow(path, query=query, headers=headers, on_drop=printing.note)
            async with aclosing(followed) as events:
                async for event in events:
                    _show_step(event, named=session_id is None, json=json)

    run(work())


async def position_now(client: GatewayClient) -> int:
    """How far the gateway has read its log."""
    answer = await client.call("GET", "/sessions", query=[("status", "creating")])
    return int(msgspec.json.decode(answer)["position"])


def show_all(answer: dict[str, Any], zone: tzinfo | None = None) -> None:
    """The answer of GET /sessions as a table, its times those of ``zone``."""
    rows = [
        (
            one["session_id"],
            one["status"],
            one["generation"],
            one["image"],
            one["owner"],
            printing.when(one["created_at"], zone=zone),
            printing.when(one["last_accessed"], zone=zone),
            one["reason"],
        )
        for one in answer["sessions"]
    ]
    if rows:
        printing.table(_COLUMNS, rows)
    printing.line(f"{printing.count(len(rows), 'session')} at position {answer['position']}.")


def show_one(session: dict[str, Any], zone: tzinfo | None = None) -> None:
    """The answer of GET /sessions/{id}, a line a fact, its times those of ``zone``."""
    facts = {name: value for name, value in session.items() if name != "links"} | session["links"]
    width = max(map(len, facts))
    for name, value in facts.items():
        is_time = name.endswith("_at") or name == "last_accessed"
        told = printing.when(value, zone=zone) if is_time else printing.shown(value)
        printing.line(f"{name:<{width}}  {told}")


def _show_position(then: moments.Then, answer: Answer) -> None:
    if then.exact is not None:
        printing.line(then.told(int(answer.headers[AS_OF_POSITION])))


async def _read(path: str, query: Query, headers: dict[str, str], url: str | None, key_file: Path | None) -> Answer:
    """Sessions, now or then. Nobody knows how long a whole log takes to fold: Ctrl-C ends the wait."""
    async with connected(url, key_file) as client:
        seconds = LOOKBACK_SECONDS if not path and any(name == "as_of" for name, _ in query) else ANSWER_SECONDS
        return await client.ask("GET", f"/sessions{path}", query=query, headers=headers, seconds=seconds)


async def _call(method: str, session_id: str, rest: str, url: str | None, key_file: Path | None, **more: Any) -> bytes:
    async with connected(url, key_file) as client:
        return await client.call(method, f"/sessions/{segment(session_id)}{rest}", **more)


async def _until_ready(client: GatewayClient, opened: dict[str, Any], seconds: float, json: bool) -> None:
    """Wait for the session, telling its steps, then show it, with its token unless it has ended. Raises Exit when it
    is not ready."""
    with _status("starting", json) as say:
        session = await steps.settle(client, opened["session_id"], seconds, say)
    opened |= {name: session[name] for name in ("status", "position", "reason", "detail")}
    if json:
        printing.document(opened)
    elif session["phase"] in ("failed", "stopped"):
        _show_unopened(opened)
    else:
        _show_opened(client, opened)
    if session["phase"] in ("failed", "stopped") or (seconds and session["phase"] != "ready"):
        raise typer.Exit(Exit.NEGATIVE)


@contextmanager
def _status(text: str, json: bool) -> Iterator[steps.Show]:
    """A turning sign on a terminal while the steps pass by above it; with ``json``, nothing."""
    if json:
        yield lambda _: None
        return
    from rich.console import Console  # here: 0.1 s that --json need not wait for

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with console.status(text):
        yield console.print


def _show_opened(client: GatewayClient, opened: dict[str, Any]) -> None:
    _show_state(opened)
    printing.line(f"token    {opened['token']}")
    printing.line(f"until    {printing.when(opened['expires_at'])}")
    target = f"{client.url}{opened['links']['proxy']}session"
    printing.line(f"try      curl -H 'Authorization: Bearer {opened['token']}' {target}")


def _show_unopened(opened: dict[str, Any]) -> None:
    """Its token opens nothing: what there is to do instead."""
    _show_state(opened)
    printing.line(f"why      python -m gateway why {opened['session_id']}")
    printing.line(f"again    python -m gateway sessions resume {opened['session_id']}")


def _show_state(opened: dict[str, Any]) -> None:
    printing.line(f"session  {opened['session_id']}  {opened['status']}")
    if opened["reason"]:
        printing.line(f"reason   {printing.shown(opened['reason'])}: {printing.shown(opened['detail'])}")


def _show_step(event: ServerEvent, *, named: bool, json: bool) -> None:
    if json:
        printing.line(event.data)
    else:
        owner = f"{msgspec.json.decode(event.data)['session_id']}  " if named else ""
        printing.line(owner + steps.told(event))


def _object(text: str | None) -> dict[str, Any] | None:
    """The JSON object of --metadata. Raises Failure."""
    try:
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Failure(Exit.USAGE, f"--metadata is not a JSON object: {error}.") from error
