"""``schema``: how the log's database stands to this release, and bringing it there without starting a gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
import typer

from events import embedded, schema
from events.embedded import EmbeddedPostgresFailed
from events.errors import EventError
from events.schema_steps import Status
from gateway.cli import printing
from gateway.cli.client import run
from gateway.cli.direct import sentence, settings
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Json, family
from gateway.storage import is_made

app = family("The log's schema: which release, what is pending.")
FIT: Final = ("up to date", "newer")  # a gateway of this release serves, and applies nothing


class Target(msgspec.Struct, frozen=True):
    """Where the schema is, as whoever migrates it, and whom it is for."""

    dsn: str
    app_user: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What ``apply`` ran, or would run. ``sql``: of a dry run."""

    release: str
    former: str | None
    files: list[str]
    sql: list[str]
    rights_separated: bool
    newer: str | None
    dry_run: bool


@app.callback()
def family_of_commands() -> None:
    """The log's schema: which release it is of, what is pending; no gateway is needed, and none is disturbed."""


@app.command()
def status(json: Json = False) -> None:
    """Every file of the schema: the release that ran it, and whether it is up to date. Changes nothing.

    Exit code 0: a gateway of this release starts and applies nothing. 1: it would apply something, or refuse.
    """
    found = run(_status())
    if json:
        told = {name: value for name, value in msgspec.to_builtins(found).items() if name != "steps"}
        printing.document(told)
    else:
        printing.table(["file", "release", "state"], [[one.file, one.release, one.state.value] for one in found.files])
        printing.line(_verdict(found))
        printing.line(_rights(found))
    raise typer.Exit(Exit.OK if found.verdict in FIT else Exit.NEGATIVE)


@app.command()
def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL that would be run, and run none.")] = False,
    json: Json = False,
) -> None:
    """Bring the database up to this release, as every start of a gateway does. All of it or nothing.

    A database of a later release is left as it is. With --dry-run the SQL is printed, which psql can run.
    """
    done = run(_dry_run() if dry_run else _apply())
    if json:
        printing.document(done)
    elif done.newer is not None:
        printing.line(f"The database is of release {done.newer}: nothing of {done.release} is applied.")
    elif dry_run:
        printing.line("\n".join(["begin;", *done.sql, "commit;"]) if done.sql else "-- There is nothing to apply.")
    elif done.files or done.former != done.release:
        files = printing.count(len(done.files), "file")
        printing.line(f"Applied {files}: {done.former or 'an empty database'} is now {done.release}.")
    else:
        printing.line(f"There is nothing to apply: the database is of release {done.release}.")


async def _status() -> Status:
    async with _target() as target:
        return await schema.status(target.dsn, target.app_user)


async def _dry_run() -> Outcome:
    async with _target() as target:
        found = await schema.status(target.dsn, target.app_user)
        found.check()
        return _outcome(found, dry_run=True)


async def _apply() -> Outcome:
    async with _target() as target:
        found = await schema.status(target.dsn, target.app_user)
        applied = await schema.apply(target.dsn, target.app_user)  # another process may have come first
        return msgspec.structs.replace(_outcome(found, dry_run=False), files=list(applied.files), newer=applied.newer)


@asynccontextmanager
async def _target() -> AsyncIterator[Target]:
    """The database that the settings name, as it is: one that is not there is not made. Raises Failure."""
    chosen = settings()
    wanted = chosen.database
    if not wanted.use_database_storage:
        raise Failure(Exit.USAGE, "The log is a file (USE_DATABASE_STORAGE=false), which has no schema.")
    if not is_made(chosen):
        raise Failure(
            Exit.LOG_UNAVAILABLE, f"There is no log in {chosen.data_dir}: a gateway makes it when it first starts."
        )
    try:
        if wanted.given:
            yield Target(wanted.admin_dsn(), wanted.app_user)
            return
        async with await embedded.start(chosen.data_dir, report=printing.note) as server:
            admin = urlunsplit(urlsplit(server.admin_dsn)._replace(path=f"/{wanted.db_name}"))
            yield Target(admin, wanted.app_user)
    except (EventError, EmbeddedPostgresFailed) as error:
        raise Failure(Exit.LOG_UNAVAILABLE, sentence(error)) from error
    except OSError as error:
        raise Failure(Exit.LOG_UNAVAILABLE, f"The log in {chosen.data_dir} cannot be opened: {error}.") from error


def _outcome(found: Status, *, dry_run: bool) -> Outcome:
    return Outcome(
        release=found.release,
        former=found.database,
        files=[step.what for step in found.steps if step.file],
        sql=[f"-- {step.what}\n{step.sql.strip().rstrip(';')};" for step in found.steps] if dry_run else [],
        rights_separated=found.rights_separated,
        newer=found.database if found.verdict == "newer" else None,
        dry_run=dry_run,
    )


def _verdict(found: Status) -> str:
    """How the database stands, and what to do about it."""
    told = f"The database is of release {found.database}, this is {found.release}: "
    match found.verdict:
        case "up to date":
            return f"The database is of release {found.database}, and up to date."
        case "newer":
            return told + "it is served as it is, and nothing is applied."
        case "too new":
            return told + f"it may not be served by a release before {found.oldest}."
        case "edited":
            return told + "a file that was run once has been edited; no gateway starts. Restore the file."
    where = told if found.database else f"The database holds no log, this is {found.release}: "
    return where + "the next start of a gateway, or schema apply, runs what is pending."


def _rights(found: Status) -> str:
    if found.rights_separated:
        what = f"The log belongs to {found.owner}, and the gateway may not act as it: rights are separated."
    else:
        what = f"The log belongs to {found.owner}, and the gateway may act as it: rights are not separated."
    able = "may" if found.may_change else "may not"
    return f"{what} The migrating role {found.role} {able} apply changes."
