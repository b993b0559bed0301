"""``events``: reads the log of a gateway that runs, or follows it. Both are recorded in it."""

from contextlib import aclosing
from typing import Annotated

import msgspec
import typer

from gateway.cli import event_lines, printing
from gateway.cli.client import connected, run
from gateway.cli.options import Json, KeyFile, Url, family
from gateway.cli.sessions import position_now

app = family("Read the log of a gateway that runs, or follow it; both are recorded in it.")
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only this type, or family as session.*; may be repeated.")
]


@app.command("list")
def list_(
    after: Annotated[int, typer.Option(help="Only events beyond this position.", min=0)] = 0,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1000)] = 100,
    type_: Types = None,
    stream: Annotated[str | None, typer.Option(help="Only this stream, as session-ses_...")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """One page of the log, oldest first."""
    query: list[tuple[str, str | int]] = [("after", after), ("limit", limit), *(("type", tag) for tag in type_ or ())]
    if stream is not None:
        query.append(("stream", stream))

    async def work() -> bytes:
        async with connected(url, key_file) as client:
            return await client.call("GET", "/events", query=query)

    answer = run(work())
    if json:
        printing.document(answer)
        return
    page = msgspec.json.decode(answer)
    for event in page["events"]:
        printing.line(event_lines.told(event))
    printing.note(f"{len(page['events'])} events; go on with --after {page['next']}.")


@app.command()
def tail(
    after: Annotated[int | None, typer.Option(help="From beyond this position; without it, from now on.")] = None,
    type_: Types = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """The log as it grows; goes on by itself after a dropped connection, without gap or double; ends with Ctrl-C."""

    async def work() -> None:
        async with connected(url, key_file) as client:
            # Where it begins is asked first: a connection that drops before its first event is resumed from there.
            start = await position_now(client) if after is None else after
            query: list[tuple[str, str | int]] = [("after", start), *(("type", tag) for tag in type_ or ())]
            async with aclosing(client.follow("/events/stream", query=query, on_drop=printing.note)) as events:
                async for event in events:
                    told = event.data if json else event_lines.told(msgspec.json.decode(event.data))
                    printing.line(told)

    run(work())
