"""``events``: reads the log of a gateway that runs, or follows it. Each reading is recorded in it."""

from collections.abc import Mapping
from contextlib import aclosing
from datetime import tzinfo
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway import names
from gateway.cli import event_lines, moments, printing
from gateway.cli.client import connected, run, segment, why
from gateway.cli.exits import Exit, Failure
from gateway.cli.filters import (
    ActorOf,
    Correlation,
    CursorOf,
    SessionId,
    Since,
    Stream,
    Trace,
    Types,
    Until,
    beginning,
    filters,
)
from gateway.cli.options import Json, KeyFile, Purpose, Tz, Url, family
from gateway.cli.pages import going_on, pages
from gateway.cli.sessions import position_now
from gateway.control import GatewayClient, GatewayRefused

app = family("Read the log of a gateway that runs, or follow it; each reading is recorded in it.")
_NOT_SHOWN: Final = ("/problems/event-unknown", "/problems/purpose-required")  # not in this log; of a session


@app.command("list")
def list_(
    after: Annotated[int | None, typer.Option(help="Only events beyond this position.", min=0)] = None,
    limit: Annotated[int, typer.Option(help="How many at most on a page.", min=1, max=1000)] = 100,
    type_: Types = None,
    stream: Stream = None,
    session: SessionId = None,
    actor: ActorOf = None,
    trace: Trace = None,
    correlation: Correlation = None,
    since: Since = None,
    until: Until = None,
    tz: Tz = None,
    cursor: CursorOf = None,
    all_: Annotated[bool, typer.Option("--all", help="Every page up to the end that the log has now.")] = False,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """A page of the log, oldest first; --all: every page. With --json, a document a page, each on a line."""
    zone = moments.zone_of(tz)
    query = filters(type_, stream=stream, session=session, actor=actor, trace=trace, correlation=correlation)
    query += [*beginning(after=after, since=since, until=until, cursor=cursor, tz=tz), ("limit", limit)]
    headers = why(purpose)

    async def work() -> None:
        count, page, widths = 0, dict[str, Any](), event_lines.Widths()
        async with connected(url, key_file) as client:
            async for answer, page in pages(client, "/events", query, headers=headers, walk=all_):
                count += len(page["events"])
                if json:
                    printing.document(answer)
                    continue
                widths.fit(page["events"])
                for event in page["events"]:
                    printing.line(event_lines.told(event, zone, widths))
        if not json:
            printing.note(going_on(page, "event", count))

    run(work())


@app.command()
def tail(
    after: Annotated[
        int | None, typer.Option(help="From beyond this position; without it, from now on.", min=0)
    ] = None,
    type_: Types = None,
    stream: Stream = None,
    session: SessionId = None,
    actor: ActorOf = None,
    trace: Trace = None,
    correlation: Correlation = None,
    since: Since = None,
    tz: Tz = None,
    cursor: CursorOf = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """The log as it grows; goes on by itself after a dropped connection, without gap or double; ends with Ctrl-C."""
    zone = moments.zone_of(tz)
    wanted = filters(type_, stream=stream, session=session, actor=actor, trace=trace, correlation=correlation)
    begin = beginning(after=after, since=since, cursor=cursor, tz=tz)
    headers = why(purpose)

    async def work() -> None:
        async with connected(url, key_file) as client:
            # Where it begins is asked first: a connection that drops before its first event is resumed from there.
            query = wanted + (begin or [("after", await position_now(client))])
            widths = event_lines.Widths()
            followed = client.follow("/events/stream", query=query, headers=headers, on_drop=printing.note)
            async with aclosing(followed) as events:
                async for event in events:
                    told = event.data if json else event_lines.told(msgspec.json.decode(event.data), zone, widths)
                    printing.line(told)

    run(work())


@app.command()
def show(
    event: Annotated[str, typer.Argument(metavar="ID|POSITION", help="The event's id, or its position.")],
    tz: Tz = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """One event with all its fields, and the event that caused it. Of a session: say why, --purpose."""
    if not names.is_event(event):
        raise Failure(Exit.USAGE, f"{event!r} is neither an event's id (a UUID) nor a position.")
    zone = moments.zone_of(tz)
    headers = why(purpose)

    async def work() -> None:
        async with connected(url, key_file) as client:
            answer = await client.call("GET", f"/events/{segment(event)}", headers=headers)
            if json:
                printing.document(answer)
                return
            found = msgspec.json.decode(answer)
            for line in event_lines.page(found, zone):
                printing.line(line)
            cause = found["causation_id"]
            if cause is not None:
                printing.line("caused by")
                printing.line(f"  {await _cause(client, cause, headers, zone)}")

    run(work())


async def _cause(client: GatewayClient, cause: str, headers: Mapping[str, str], zone: tzinfo | None) -> str:
    """The causing event on a line, which is a reading of its own; or why it is not shown."""
    try:
        found = msgspec.json.decode(await client.call("GET", f"/events/{cause}", headers=headers))
        return event_lines.told(found, zone).strip()
    except GatewayRefused as refused:
        if refused.problem.type not in _NOT_SHOWN:
            raise
        return f"{cause}: {refused.problem.title[:1].lower()}{refused.problem.title[1:]}."
