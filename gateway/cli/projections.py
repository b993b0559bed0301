"""``projections``: what is derived from the log, and how far it has been read. Folds the log itself."""

import msgspec

from gateway.cli import printing
from gateway.cli.client import run
from gateway.cli.direct import open_log
from gateway.cli.options import Json, family
from projections.views import Views

app = family("What is derived from the log, and how far.")


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One projection as this process folds it."""

    name: str
    version: int
    states: int
    position: int
    lag: int  # events of the log that it has not seen


class Status(msgspec.Struct, frozen=True, kw_only=True):
    log_id: str
    head: int
    projections: list[ProjectionStatus]


@app.callback()
def projections() -> None:
    """What is derived from the log, and how far; no gateway is needed."""


@app.command()
def status(json: Json = False) -> None:
    """Fold every projection from the first event on, and say what came of it."""
    found = run(_status())
    if json:
        printing.document(found)
        return
    rows = [[one.name, one.version, one.states, one.position, one.lag] for one in found.projections]
    printing.table(["projection", "version", "states", "position", "lag"], rows)
    printing.line(f"The log {found.log_id} ends at position {found.head}.")


async def _status() -> Status:
    async with open_log(if_forked="warn") as log:
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
