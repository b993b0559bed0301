"""``doctor``: looks at what a gateway needs, a row a thing, and says what is wrong and what to do."""

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.cli import printing
from gateway.cli.client import address, client, key, run
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Json, KeyFile, Url, family
from gateway.cli.rows_seen import rows_seen
from gateway.control import GatewayClient
from gateway.doctor.examine import examine, worst
from gateway.doctor.row import Report, State
from gateway.doctor.rows import ROWS, row
from gateway.doctor.surroundings import NoGateway, Surroundings

app = family("Look at what a gateway needs: what is wrong, and what to do.")
_EXIT: Final = {State.PASS: Exit.OK, State.WARN: Exit.OK, State.FAIL: Exit.NEGATIVE, State.SKIP: Exit.SKIPPED}


@app.command()
def doctor(
    names: Annotated[list[str] | None, typer.Argument(help="Rows to look at; else all.", metavar="[ROW]...")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say which rows there are, and look at none.")] = False,
    json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Look at what a gateway on this environment needs, and at one that runs: pass, warn, fail or skip, a row each.

    Makes a container or two on the daemon and removes them; changes nothing else. Exit code 0: nothing fails. 1: a row
    fails. 77: there was nothing to look at.
    """
    chosen = _chosen(names or [])
    if listed:
        _list(chosen, json)
        return
    rows = [row(name) for name in chosen]
    if url is not None or key_file is not None:  # what is asked for must be right; what is only there need not be
        address(url, os.environ)
        key(key_file, os.environ)
    here = Surroundings(os.environ, lambda: _connect(url, key_file))
    reports = run(_collect(examine(rows, here), len(rows), silent=json))
    reports.sort(key=lambda report: list(ROWS).index(report.row))
    if json:
        printing.document({"state": worst(reports), "rows": reports})
    else:
        _print(reports)
    raise typer.Exit(_EXIT[worst(reports)])


async def _collect(reports: AsyncIterator[Report], total: int, *, silent: bool) -> list[Report]:
    found = []
    with rows_seen(total, silent=silent) as seen:
        async for report in reports:
            seen(report)
            found.append(report)
    return found


def _chosen(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise Failure(Exit.USAGE, f"There is no row {unknown[0]!r}: the rows are {', '.join(ROWS)}.")
    return list(dict.fromkeys(names or ROWS))


def _connect(url: str | None, key_file: Path | None) -> GatewayClient:
    try:
        return client(url, key_file)
    except Failure as failure:
        raise NoGateway(" ".join(failure.sentences)) from failure


def _list(names: Sequence[str], json: bool) -> None:
    if json:
        printing.document([{"row": name, "about": ROWS[name]} for name in names])
    else:
        printing.table(["row", "looks at"], [[name, ROWS[name]] for name in names])


def _print(reports: Sequence[Report]) -> None:
    printing.table(["row", "state", "what"], [[report.row, report.state.value, report.sentence] for report in reports])
    todos: dict[str, list[str]] = {}
    for report in reports:
        if report.todo:
            todos.setdefault(report.todo, []).append(report.row)
    for todo, rows in todos.items():
        printing.line(f"{', '.join(rows)}: {printing.shown(todo)}")
