"""``projections``: what is derived from the log: how it stands, whether it is what the log says, and making it anew."""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import typer

from events.catalogue import ProjectionRebuilt
from events.dialling import Pool
from gateway.cli import moments, printing, projection_lines
from gateway.cli.bar import bar
from gateway.cli.client import run
from gateway.cli.direct import CLI, Direct, open_log, sentence, settings
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Json, Tz, family
from gateway.rebuilds import Proofs, rebuilder
from projections.errors import ProjectionError, UnderWay
from projections.proof import Proof
from projections.table import Table
from projections.table_report import Report, folded, report
from projections.tables import TABLES

app = family("What is derived from the log: how it stands, whether it is right, and making it anew.")
T = TypeVar("T")
Name = Annotated[str | None, typer.Argument(metavar="NAME", help="One table, named as its projection.")]
All = Annotated[bool, typer.Option("--all", help="Every table, one after the other.")]


class Unable(msgspec.Struct, frozen=True, kw_only=True):
    """A table that nothing could be done about, and why; ``holder``: who is at it, unless it is gone by then."""

    name: str
    reason: str
    holder: str | None = None
    expires_at: datetime | None = None


class Sweep(msgspec.Struct, Generic[T], kw_only=True):
    """What became of each table so far. ``left``: not come to yet; ``ended_early``: why the others never will be."""

    done: list[T]
    refused: list[Unable]
    left: list[str]
    ended_early: str | None = None


@app.callback()
def projections() -> None:
    """What is derived from the log: how it stands, whether it is right, and making it anew; no gateway is needed."""


@app.command()
def status(
    exact: Annotated[
        bool, typer.Option("--exact", help="Count the rows of large tables too, which takes long.")
    ] = False,
    tz: Tz = None,
    json: Json = False,
) -> None:
    """How every table stands: versions, position, lag, rows, who carries it on, a rebuild under way, the last proof.

    The rows of large tables are Postgres' estimate (~), unless --exact. A log in a file has no tables: then every
    projection is folded from the first event, and said what came of it.
    """
    zone = moments.zone_of(tz)
    found = run(_status(exact))
    if json:
        printing.document(found)
    else:
        projection_lines.show_report(found, zone)


@app.command()
def rebuild(
    name: Name = None,
    everything: All = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Drop what an interrupted rebuild has built, and build nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a table anew from the log, beside the one in use, and put it in its place when it is complete.

    Gateways go on meanwhile. Interrupted, by Ctrl-C too, it is gone on with by the same command. Exit code 1: a table
    was not rebuilt; the reason is told.
    """
    tables = _chosen(name, everything)
    if abandon:
        dropped = Sweep[str](done=[], refused=[], left=[table.name for table in tables])
        with _told_at_the_end(dropped, "abandoned", json=json):
            run(_abandon(tables, dropped))
        if not json:
            printing.line(f"Dropped: {', '.join(dropped.done)}." if dropped.done else "There is nothing to drop.")
        _end(dropped.refused, negative=not dropped.done)
        return
    rebuilt = Sweep[ProjectionRebuilt](done=[], refused=[], left=[table.name for table in tables])
    try:
        with _told_at_the_end(rebuilt, "rebuilt", json=json):
            run(_rebuild(tables, rebuilt, silent=json))
    except KeyboardInterrupt:
        printing.note("Interrupted: what was built is kept. The same command goes on from there; --abandon drops it.")
        raise
    _end(rebuilt.refused)


@app.command()
def verify(name: Name = None, everything: All = False, json: Json = False) -> None:
    """Compare a table, row by row, with a fold of the log up to exactly the table's position. An event says so.

    Without a name every table. Gateways go on meanwhile. Exit code 1: one differs, and the rows are told; or it could
    not be compared.
    """
    tables = _chosen(name, everything or name is None)
    verified = Sweep[Proof](done=[], refused=[], left=[table.name for table in tables])
    with _told_at_the_end(verified, "verified", json=json):
        run(_verify(tables, verified, silent=json))
    _end(verified.refused, negative=any(proof.differing for proof in verified.done))


async def _status(exact: bool) -> Report:
    async with open_log(if_forked="warn") as log:
        if log.storage.pool is None:
            return await folded(log.storage.store, TABLES)
        return await report(log.storage.store, log.storage.pool, TABLES, exact=exact)


async def _rebuild(tables: Sequence[Table[Any]], sweep: Sweep[ProjectionRebuilt], *, silent: bool) -> None:
    async with _with_tables() as (log, pool):
        work = rebuilder(log.recorder, pool, log.storage.leases, who=CLI, holder=_holder())

        async def one(table: Table[Any]) -> ProjectionRebuilt:
            with bar("Rebuilding", silent=silent) as watch:
                done = await work.rebuild(table, watch=watch)
            if not silent:
                projection_lines.show_rebuilt(done)
            return done

        await _each(tables, one, sweep)


async def _abandon(tables: Sequence[Table[Any]], sweep: Sweep[str]) -> None:
    async with _with_tables() as (log, pool):
        work = rebuilder(log.recorder, pool, log.storage.leases, who=CLI, holder=_holder())

        async def one(table: Table[Any]) -> str | None:
            return table.name if await work.abandon(table) else None

        await _each(tables, one, sweep)


async def _verify(tables: Sequence[Table[Any]], sweep: Sweep[Proof], *, silent: bool) -> None:
    async with _with_tables() as (log, pool):
        prover = Proofs(log.recorder, pool, who=CLI).prover

        async def one(table: Table[Any]) -> Proof:
            with bar("Verifying", silent=silent) as watch:
                proof = await prover.prove(table, watch)
            if not silent:
                projection_lines.show_proof(proof)
            return proof

        await _each(tables, one, sweep)


async def _each(
    tables: Sequence[Table[Any]], work: Callable[[Table[Any]], Awaitable[T | None]], sweep: Sweep[T]
) -> None:
    """One table that is refused does not keep the others waiting."""
    for table in tables:
        try:
            done = await work(table)
        except ProjectionError as error:
            sweep.refused.append(_unable(table.name, error))
        else:
            sweep.done += [] if done is None else [done]
        sweep.left.remove(table.name)


def _unable(name: str, error: ProjectionError) -> Unable:
    if isinstance(error, UnderWay):
        return Unable(name=name, reason=sentence(error), holder=error.holder, expires_at=error.expires_at)
    return Unable(name=name, reason=sentence(error))


@contextmanager
def _told_at_the_end(sweep: Sweep[Any], word: str, *, json: bool) -> Iterator[None]:
    """One document, also when the work ends early: what is done by then is done."""
    try:
        yield
    except BaseException as error:
        sweep.ended_early = _why(error)
        raise
    finally:
        if json:
            told = {"refused": sweep.refused, "left": sweep.left, "ended_early": sweep.ended_early}
            printing.document({word: sweep.done} | told)


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted."
    return " ".join(error.sentences) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"


@asynccontextmanager
async def _with_tables() -> AsyncIterator[tuple[Direct, Pool]]:
    """The log and the database of its tables. Raises Failure."""
    async with open_log() as log:
        assert log.storage.pool is not None, "_chosen refuses a log in a file"
        yield log, log.storage.pool


def _chosen(name: str | None, everything: bool) -> list[Table[Any]]:
    """The tables that the arguments name. Raises Failure, also where there are none at all: before the log is opened,
    which a gateway may have."""
    known = {table.name: table for table in TABLES}
    if everything is (name is not None):
        raise Failure(Exit.USAGE, f"Give one of {', '.join(known)}, or --all.")
    if name is not None and name not in known:
        raise Failure(Exit.USAGE, f"{name!r} is no table: there are {', '.join(known)}.")
    if not settings().database.use_database_storage:
        raise Failure(Exit.USAGE, "The log is a file (USE_DATABASE_STORAGE=false), which has no tables.")
    return list(TABLES) if name is None else [known[name]]


def _holder() -> str:
    """Who a second one is told to wait for."""
    return f"a command on {socket.gethostname()} (process {os.getpid()})"


def _end(refused: Sequence[Unable], *, negative: bool = False) -> None:
    if refused:
        raise Failure(Exit.NEGATIVE, *(one.reason for one in refused))
    if negative:
        raise typer.Exit(Exit.NEGATIVE)
