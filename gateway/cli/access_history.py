"""``sessions access-history``: who read a session, when, what of it and why."""

from typing import Annotated, Any, Final

import typer

from gateway.cli import event_lines, moments, printing
from gateway.cli.client import connected, run, segment, why
from gateway.cli.options import Json, KeyFile, Purpose, Tz, Url
from gateway.cli.pages import going_on, pages

_COLUMNS: Final = ("position", "when", "who", "read", "of", "range", "why")


def access_history(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="A session's id, as ses_...", show_default=False)],
    limit: Annotated[int, typer.Option(help="How many at most on a page.", min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where an answer ended.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every page up to the end that the log has now.")] = False,
    tz: Tz = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Who read a session, when, what of it and why; its own frontend, and operators who look at the present, aside.

    An auditor or operator says why: --purpose. With --json, a document a page, each on a line.
    """
    zone = moments.zone_of(tz)
    query: list[tuple[str, str | int]] = [("limit", limit)]
    query += [("cursor", cursor)] if cursor is not None else []
    headers = why(purpose)
    path = f"/sessions/{segment(session_id)}/access-history"

    async def work() -> None:
        rows, page = list[tuple[object, ...]](), dict[str, Any]()
        async with connected(url, key_file) as client:
            async for answer, page in pages(client, path, query, headers=headers, walk=all_):
                if json:
                    printing.document(answer)
                rows += [
                    (
                        read["position"],
                        printing.when(read["recorded_at"], zone=zone),
                        event_lines.actor(read["reader"]),
                        read["what"],
                        read["scope"],
                        range_of(read),
                        read["purpose"],
                    )
                    for read in page["reads"]
                ]
        if json:
            return
        if rows:
            printing.table(_COLUMNS, rows)
        printing.note(going_on(page, "reading", len(rows)))

    run(work())


def range_of(read: dict[str, Any]) -> str:
    """What was read, in short: positions, and the filters that made it less."""
    first, last = read["after"], read["until"]
    positions = "" if first is None and last is None else f"{(first or 0) + 1}-{'' if last is None else last}"
    if first is None and last is not None:
        positions = f"at {last}"
    filters = [
        *read["types"],
        *([read["stream"]] if read["stream"] else []),
        *(["filtered"] if read["filtered"] else []),
    ]
    return " ".join([positions, *filters]).strip()
