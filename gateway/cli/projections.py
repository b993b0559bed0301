"""``projections``: what is derived from the log: how it stands, whether it is what the log says, and making it anew."""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from events.catalogue import ProjectionRebuilt
from events.dialling import Pool
from gateway.cli import durations, printing
from gateway.cli.bar import bar
from gateway.cli.client import run
from gateway.cli.direct import CLI, Direct, open_log, sentence
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import Json, family
from gateway.rebuilds import Proofs, rebuilder
from projections.drift import words
from projections.errors import ProjectionError
from projections.proof import Proof
from projections.table import Table
from projections.table_report import Report, TableReport, report
from projections.tables import TABLES
from projections.views import Views

app = family("What is derived from the log: how it stands, whether it is right, and making it anew.")
T = TypeVar("T")
Name = Annotated[str | None, typer.Argument(metavar="NAME", help="One table, named as its projection.")]
All = Annotated[bool, typer.Option("--all", help="Every table, one after the other.")]


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One projection as this process folds it."""

    name: str
    version: int
    states: int
    position: int
    lag: int  # events of the log that it has not seen


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Of a log without tables."""

    log_id: str
    head: int
    projections: list[ProjectionStatus]


class Unable(msgspec.Struct, frozen=True):
    """A table that nothing could be done about, and why."""

    name: str
    reason: str


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    rebuilt: list[ProjectionRebuilt]
    refused: list[Unable]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    verified: list[Proof]
    refused: list[Unable]


@app.callback()
def projections() -> None:
    """What is derived from the log: how it stands, whether it is right, and making it anew; no gateway is needed."""


@app.command()
def status(json: Json = False) -> None:
    """How every table stands: versions, position, lag, rows, who carries it on, a rebuild under way, the last proof.

    A log in a file has no tables: then every projection is folded from the first event, and said what came of it.
    """
    found = run(_status())
    if json:
        printing.document(found)
    elif isinstance(found, Report):
        _show_tables(found)
    else:
        rows = [[one.name, one.version, one.states, one.position, one.lag] for one in found.projections]
        printing.table(["projection", "version", "states", "position", "lag"], rows)
        printing.line(f"The log {found.log_id} ends at position {found.head}.")


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
    try:
        if abandon:
            dropped = run(_abandon(tables))
            if json:
                printing.document({"abandoned": dropped})
            else:
                printing.line(f"Dropped: {', '.join(dropped)}." if dropped else "There is nothing to drop.")
            raise typer.Exit(Exit.OK if dropped else Exit.NEGATIVE)
        done, refused = run(_rebuild(tables, silent=json))
    except KeyboardInterrupt:
        printing.note("Interrupted: what was built is kept. The same command goes on from there; --abandon drops it.")
        raise
    if json:
        printing.document(Rebuilt(rebuilt=done, refused=refused))
    _end(refused)


@app.command()
def verify(name: Name = None, everything: All = False, json: Json = False) -> None:
    """Compare a table, row by row, with a fold of the log up to exactly the table's position. An event says so.

    Without a name every table. Gateways go on meanwhile. Exit code 1: one differs, and the rows are told; or it could
    not be compared.
    """
    tables = _chosen(name, everything or name is None)
    proofs, refused = run(_verify(tables, silent=json))
    if json:
        printing.document(Verified(verified=proofs, refused=refused))
    _end(refused, negative=any(proof.differing for proof in proofs))


async def _status() -> Report | Status:
    async with open_log(if_forked="warn") as log:
        if log.storage.pool is not None:
            return await report(log.storage.store, log.storage.pool, TABLES)
        views = Views(log.storage.store)
        await views.load()
        head = (await log.storage.store.head()).position
        return Status(
            log_id=str(log.storage.store.log_id),
            head=head,
            projections=[
                ProjectionStatus(
                    name=projection.name,
                    version=projection.version,
                    states=len(states),
                    position=views.position,
                    lag=head - views.position,
                )
                for projection, states in views.folds
            ],
        )


async def _rebuild(tables: Sequence[Table[Any]], *, silent: bool) -> tuple[list[ProjectionRebuilt], list[Unable]]:
    async with _with_tables() as (log, pool):
        work = rebuilder(log.recorder, pool, log.storage.leases, who=CLI, holder=_holder())

        async def one(table: Table[Any]) -> ProjectionRebuilt:
            with bar("Rebuilding", silent=silent) as watch:
                done = await work.rebuild(table, watch=watch)
            if not silent:
                printing.line(_told(done))
            return done

        return await _each(tables, one)


async def _abandon(tables: Sequence[Table[Any]]) -> list[str]:
    async with _with_tables() as (log, pool):
        work = rebuilder(log.recorder, pool, log.storage.leases, who=CLI, holder=_holder())
        try:
            return [table.name for table in tables if await work.abandon(table)]
        except ProjectionError as error:
            raise Failure(Exit.NEGATIVE, sentence(error)) from error


async def _verify(tables: Sequence[Table[Any]], *, silent: bool) -> tuple[list[Proof], list[Unable]]:
    async with _with_tables() as (log, pool):
        prover = Proofs(log.recorder, pool, who=CLI).prover

        async def one(table: Table[Any]) -> Proof:
            with bar("Verifying", silent=silent) as watch:
                proof = await prover.prove(table, watch)
            if not silent:
                _show(proof)
            return proof

        return await _each(tables, one)


async def _each(
    tables: Sequence[Table[Any]], work: Callable[[Table[Any]], Awaitable[T]]
) -> tuple[list[T], list[Unable]]:
    """One table that is refused does not keep the others waiting."""
    done, refused = list[T](), list[Unable]()
    for table in tables:
        try:
            done.append(await work(table))
        except ProjectionError as error:
            refused.append(Unable(table.name, sentence(error)))
    return done, refused


@asynccontextmanager
async def _with_tables() -> AsyncIterator[tuple[Direct, Pool]]:
    """The log and the database of its tables. Raises Failure."""
    async with open_log() as log:
        if log.storage.pool is None:
            raise Failure(Exit.USAGE, "The log is a file (USE_DATABASE_STORAGE=false), which has no tables.")
        yield log, log.storage.pool


def _chosen(name: str | None, everything: bool) -> list[Table[Any]]:
    known = {table.name: table for table in TABLES}
    if everything is (name is not None):
        raise Failure(Exit.USAGE, f"Give one of {', '.join(known)}, or --all.")
    if name is None:
        return list(TABLES)
    if name not in known:
        raise Failure(Exit.USAGE, f"{name!r} is no table: there are {', '.join(known)}.")
    return [known[name]]


def _holder() -> str:
    """Who a second one is told to wait for."""
    return f"a command on {socket.gethostname()} (process {os.getpid()})"


def _end(refused: Sequence[Unable], *, negative: bool = False) -> None:
    if refused:
        raise Failure(Exit.NEGATIVE, *(one.reason for one in refused))
    if negative:
        raise typer.Exit(Exit.NEGATIVE)


def _told(done: ProjectionRebuilt) -> str:
    former = f"{done.differing} differed from the former table" if done.differing else "as the former table held them"
    took = durations.told(done.duration_us)
    rows = printing.count(done.rows, "row")
    return f"{done.projection}: {rows} at position {done.position}, {former}; {took} since it was begun."


def _show(proof: Proof) -> None:
    at = f"at position {proof.position}"
    if not proof.differing:
        printing.line(f"{proof.name}: {printing.count(proof.rows, 'row')} {at}, as the log says.")
        return
    printing.line(f"{proof.name}: {words(proof)} {at}; the table has {proof.rows}, the log makes {proof.made}.")
    rows = list[list[str]]()
    for one in proof.drift:
        if one.kind == "changed":
            rows += [[one.key, each.field, each.table, each.log] for each in one.differences]
        else:
            told = ("no row", "a row") if one.kind == "missing" else ("a row", "no row")
            rows.append([one.key, one.kind, *told])
    printing.table(["key", "what", "table", "log"], rows)
    if proof.differing > len(proof.drift):
        printing.line(f"... and {printing.count(proof.differing - len(proof.drift), 'more row')}.")


def _show_tables(found: Report) -> None:
    titles = ["table", "version", "position", "lag", "rows", "updated", "proved", "rebuild"]
    printing.table(titles, [_cells(one) for one in found.projections])
    printing.line(f"The log {found.log_id} ends at position {found.head}.")
    if found.projector is None:
        printing.line("No gateway carries the tables on.")
    else:
        printing.line(f"{found.projector.holder} carries the tables on.")


def _cells(one: TableReport) -> list[object]:
    version = one.version if one.table_version in (None, one.version) else f"{one.table_version} (code: {one.version})"
    if one.table_version is None:
        return [one.name, version, "never made", one.lag, one.rows, None, _proved(one), _under_way(one)]
    return [
        one.name,
        version,
        one.position,
        one.lag,
        one.rows,
        printing.when(one.updated_at),
        _proved(one),
        _under_way(one),
    ]


def _proved(one: TableReport) -> str | None:
    if one.proved is None:
        return None
    verdict = words(one.proved) if one.proved.differing else "right"
    return f"{verdict} at {one.proved.position}, {printing.when(one.proved.verified_at)}"


def _under_way(one: TableReport) -> str | None:
    if one.rebuild is None:
        return None
    who = f"by {one.rebuild.holder}" if one.rebuild.holder else "interrupted"
    return f"at {one.rebuild.position}, {who}"
