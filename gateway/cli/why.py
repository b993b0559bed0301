"""``why``: what led to an event, a session, a request or a trace, and what it led to, as a tree on one page."""

from typing import Annotated

import msgspec
import typer

from gateway import names
from gateway.cli import moments, printing, why_page
from gateway.cli.client import connected, run
from gateway.cli.client import why as purpose_of
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Json, KeyFile, Purpose, Tz, Url, family

app = family("What led to something, and what it led to.")


@app.command()
def why(
    what: Annotated[
        str,
        typer.Argument(
            metavar="EVENT|SESSION|REQUEST_ID",
            help="An event's id or position, a session's id, an X-Request-ID or a trace id; KIND:ID says which it is.",
            show_default=False,
        ),
    ],
    all_: Annotated[bool, typer.Option("--all", help="Every event singly, however many there are of a kind.")] = False,
    after: Annotated[
        int | None, typer.Option(min=0, help="With --all: go on beyond this position.", show_default=False)
    ] = None,
    tz: Tz = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """What happened, by whom, how long it took and what made it happen, as a tree: causes above what they led to.

    KIND is event, session, request or trace. Exit code 1 when the log holds nothing of it. Reading is an event; what
    concerns one session needs a --purpose.
    """
    query = [("of", what), *([("all", "true")] if all_ else [])]
    if after is not None:
        query.append(("after", str(after)))
    if names.KINDED.fullmatch(what) is None:
        raise Failure(
            Exit.USAGE, f"{what!r} is no id of an event, session, request or trace, nor KIND:ID, as request:ID."
        )
    if after is not None and not all_:
        raise Failure(Exit.USAGE, "--after goes on with --all.")
    zone = moments.zone_of(tz)
    headers = purpose_of(purpose)

    async def work() -> bytes:
        async with connected(url, key_file) as client:
            return await client.call("GET", "/why", query=query, headers=headers)

    answer = run(work())
    if json:
        printing.document(answer)
    else:
        why_page.show(msgspec.json.decode(answer), zone)
