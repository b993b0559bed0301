"""``sessions timeline``: every step of one session, with what went through it between them."""

from typing import Annotated, Any

import msgspec
import typer

from gateway.cli import moments, printing, timeline_page
from gateway.cli.client import connected, run, segment, why
from gateway.cli.options import AsOf, FoldOf, Json, KeyFile, Purpose, Tz, Url


def timeline(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="A session's id, as ses_...", show_default=False)],
    as_of: AsOf = None,
    cursor: Annotated[str | None, typer.Option(help="Go on where an answer ended.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every part, where one answer does not hold it.")] = False,
    tz: Tz = None,
    fold: FoldOf = None,
    purpose: Purpose = None,
    url: Url = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Every step of one session in order, with what went through it between them. All but its frontend say why.

    With --json, a document an answer, each on a line.
    """
    then = moments.then(as_of, tz, fold)
    query = [("as_of", then.exact)] if then.exact is not None else []
    query += [("cursor", cursor)] if cursor is not None else []
    headers, path = why(purpose), f"/sessions/{segment(session_id)}/timeline"

    async def work() -> list[dict[str, Any]]:
        parts, asked = list[dict[str, Any]](), query
        async with connected(url, key_file) as client:
            while True:
                answer = await client.call("GET", path, query=asked, headers=headers)
                parts.append(msgspec.json.decode(answer))
                if json:
                    printing.document(answer)
                if parts[-1]["complete"] or not all_:
                    return parts
                asked = [("cursor", parts[-1]["cursor"])]

    parts = run(work())
    if json:
        return
    if then.exact is not None:
        printing.line(then.told(parts[-1]["until"]))
    entries = [entry for part in parts for entry in part["entries"]]
    timeline_page.show({**parts[-1], "entries": entries}, then.zone)
