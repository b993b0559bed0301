"""``log``: decisions about the log as such that only a person can take, each of them an event in it."""

import sys

import msgspec
import typer

from events.catalogue import LogForkAccepted
from events.envelope import SYSTEM
from events.errors import LogForked, StoreUnavailable
from events.mark import Mark, Marks
from gateway import forks
from gateway.cli import printing
from gateway.cli.client import run
from gateway.cli.direct import CLI, Direct, open_log, sentence
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import DryRun, Json, Yes, family

app = family("Decide about a log that has lost events.")


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A fork that was, or would be, accepted. ``position``: of the event that says so."""

    same_until: int
    differs_from: int
    known_until: int
    position: int | None
    dry_run: bool


@app.callback()
def log() -> None:
    """Decide about a log that has lost events; no gateway is needed."""


@app.command()
def accept(dry_run: DryRun = False, yes: Yes = False, json: Json = False) -> None:
    """Go on with the log as it is, though it has lost events that this data directory has seen.

    An event says so for ever. Restart the gateways of this data directory afterwards; another data directory that has
    seen lost events needs its own. Exit code 1 when the log holds all that was seen.
    """
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise Failure(Exit.USAGE, "Nobody can be asked here: give --yes, or look first with --dry-run.")
        typer.confirm("Go on without the events that the log has lost?", abort=True, err=True)
    forked, position = run(_accept(dry_run))
    if forked is None:
        raise Failure(Exit.NEGATIVE, "The log holds all that this data directory has seen: there is nothing to accept.")
    if json:
        printing.document(
            Accepted(
                same_until=forked.same_until,
                differs_from=forked.differs_from,
                known_until=forked.known_until,
                position=position,
                dry_run=dry_run,
            )
        )
        return
    printing.line(sentence(forked))
    if not dry_run:
        printing.line(f"Accepted at position {position}. Start the gateways of this data directory again.")


async def _accept(dry_run: bool) -> tuple[LogForked | None, int | None]:
    async with open_log(if_forked="open") as direct:
        forked = await forks.fork_of(direct.settings.data_dir, direct.storage.store)
        if forked is None or dry_run:
            return forked, None
        accepted = LogForkAccepted(
            same_until=forked.same_until, differs_from=forked.differs_from, known_until=forked.known_until
        )
        position = await direct.recorder.fact(SYSTEM, accepted, who=CLI)
        if position is None:
            raise StoreUnavailable("the log went away: accept again when it is back")
        await _remember(direct, forked, position)
        return forked, position


async def _remember(direct: Direct, forked: LogForked, position: int) -> None:
    """From here on what was seen is the log as it is: the part that stayed, and the event that accepts the rest."""
    store, data_dir = direct.storage.store, direct.settings.data_dir
    before = forks.read(data_dir)
    stayed = [mark for mark in before or () if mark.position <= forked.same_until]
    (accepted,) = await store.read_log(after=position - 1, limit=1)
    forks.write(data_dir, Marks(store.log_id, [*stayed, Mark.of(accepted)]))
