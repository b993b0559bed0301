"""``import-sessions``: the sessions file of the former manager becomes events, one for each session (spec row C5).

A session is told once, whatever happens: its event has an id made from the log and the session, so that a second run,
or one that goes on where another was killed, finds what is there and says so.
"""

import sys
from datetime import tzinfo
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from events import codec
from events.catalogue import ApiKeyCreated, SessionImported
from events.codec import Cause
from events.envelope import KEYS, NEW, Sealed, StreamWrite, session_stream
from events.ids import named, uuid7
from events.sealing import Place, unseal
from events.store import Appended, Conflict, Mismatch
from gateway.cli import moments, printing
from gateway.cli.client import run
from gateway.cli.direct import CLI, Direct, open_log
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import DryRun, Json, family
from gateway.recorder import session_subject, utc_now
from gateway.sessions import legacy
from gateway.sessions.legacy import LegacySession, NotASessionsFile, RefusedRow

app = family("Take over the sessions file of the former manager.")
TAG: Final = "session.imported"
SEALED: Final = ("owner", "host_dir", "metadata", "rest")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each record. ``known``: in the log already, told by a former run."""

    file: str
    dry_run: bool
    imported: list[str]
    known: list[str]
    refused: list[RefusedRow]


@app.command()
def import_sessions(
    file: Annotated[Path, typer.Argument(help="The JSON file of the former manager; - reads the standard input.")],
    opened_by: Annotated[
        str, typer.Option(help="Id of the frontend's key that may see them; else operators and auditors only.")
    ] = "",
    owner_field: Annotated[
        str | None, typer.Option(help="The key of metadata that names whom a session was for, as user_id.")
    ] = None,
    tz: Annotated[str, typer.Option(help="Zone of times that name none, as Europe/Oslo.")] = "UTC",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put the former manager's sessions into the log, as ended ones: for the record, and for whoever lists them.

    Their tokens are not taken over, and their containers and files are not touched. Safe to repeat. Exit code 1 when a
    record was refused; the reasons are printed.
    """
    records = _read(file, moments.zone_of(tz), owner_field)
    report = run(_import(str(file), records, opened_by, dry_run))
    if json:
        printing.document(report)
    else:
        _tell(report)
    if report.refused:
        raise typer.Exit(Exit.NEGATIVE)


def _read(file: Path, zone: tzinfo | None, owner_field: str | None) -> list[LegacySession | RefusedRow]:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return legacy.read(content.decode("utf-8-sig"), now=utc_now(), zone=zone, owner_field=owner_field)
    except OSError as error:
        raise Failure(Exit.USAGE, f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Failure(Exit.USAGE, f"{file} is not UTF-8.") from error
    except NotASessionsFile as error:
        raise Failure(Exit.USAGE, str(error)) from error


async def _import(file: str, records: list[LegacySession | RefusedRow], opened_by: str, dry_run: bool) -> Report:
    imported, known, refused = [], [], [record for record in records if isinstance(record, RefusedRow)]
    cause = Cause(correlation_id=uuid7())  # one for the run
    async with open_log() as log:
        if opened_by and not await _is_key(log, opened_by):
            raise Failure(Exit.USAGE, f"No API key has the id {printing.shown(opened_by)}: `keys list` shows them.")
        for row, record in enumerate(records, start=1):
            if isinstance(record, RefusedRow):
                continue
            reason = await _take_over(log, record, opened_by, cause, dry_run)
            match reason:
                case "imported":
                    imported.append(record.session_id)
                case "known":
                    known.append(record.session_id)
                case _:
                    refused.append(RefusedRow(row=row, session_id=record.session_id, reason=reason))
            if sys.stderr.isatty():
                print(f"\r{row} of {len(records)}", end="\n" if row == len(records) else "", file=sys.stderr)
    refused.sort(key=lambda each: each.row)
    return Report(file=file, dry_run=dry_run, imported=imported, known=known, refused=refused)


async def _is_key(log: Direct, key_id: str) -> bool:
    after = 0
    while page := await log.storage.store.read_stream(KEYS, after=after):
        for event in page:
            payload = codec.decode(event)
            if isinstance(payload, ApiKeyCreated) and payload.key_id == key_id:
                return True
        after = page[-1].version
    return False


async def _take_over(log: Direct, record: LegacySession, opened_by: str, cause: Cause, dry_run: bool) -> str:
    """``imported``, ``known``, or why not."""
    stream_id = session_stream(record.session_id)
    store = log.storage.store
    if there := await store.read_stream(stream_id, limit=1):
        payload = codec.decode(there[0])
        if not isinstance(payload, SessionImported):
            return "a session of this gateway has that id"
        return await _compare(log, record, payload)
    if dry_run:
        return "imported"
    event = await log.recorder.event(
        stream_id,
        await _payload(log, record, opened_by),
        who=CLI,
        cause=cause,
        event_id=named(TAG, str(store.log_id), record.session_id),
    )
    match await store.append(StreamWrite(stream_id, NEW, (event,))):
        case Appended(duplicate=False):
            return "imported"
        case Appended():
            return "known"
        case Conflict() | Mismatch():
            return "another run has just written that session; run this again"
        case outcome:
            return f"the log did not take it: {outcome}"


async def _payload(log: Direct, record: LegacySession, opened_by: str) -> SessionImported:
    stream_id = session_stream(record.session_id)
    subject = record.owner or session_subject(record.session_id)
    await log.recorder.keyring.key_for(subject)  # also where nothing is sealed yet: none is made for it later
    sealed = {
        field: await log.recorder.sealed(subject, clear, stream_id, TAG, field)
        for field in SEALED
        if (clear := getattr(record, field)) is not None
    }
    return SessionImported(
        session_id=record.session_id,
        status=record.status,
        created_at=record.created_at,
        last_accessed=record.last_accessed,
        container_name=record.container_name,
        container_id=record.container_id,
        port=record.port,
        opened_by=opened_by,
        **sealed,
    )


async def _compare(log: Direct, record: LegacySession, told: SessionImported) -> str:
    """A file that changed since is not the same import. What was erased meanwhile cannot be compared, and is not."""
    plain = ("status", "created_at", "last_accessed", "container_name", "container_id", "port")
    differ = [name for name in plain if getattr(told, name) != getattr(record, name)]
    keys = await log.storage.keyring.keys({each.k for name in SEALED if (each := getattr(told, name)) is not None})
    stream_id = session_stream(record.session_id)
    for name in SEALED:
        sealed: Sealed | None = getattr(told, name)
        if sealed is None:
            differ += [name] if getattr(record, name) is not None else []
        elif sealed.k in keys and unseal(keys[sealed.k], sealed, Place(stream_id, TAG, name)) != getattr(record, name):
            differ.append(name)
    return f"imported before with another {', '.join(sorted(differ))}" if differ else "known"


def _tell(report: Report) -> None:
    if report.refused:
        rows = [(each.row, each.session_id, each.reason) for each in report.refused]
        printing.table(("ROW", "SESSION", "REFUSED BECAUSE"), rows)
    would = "Would import" if report.dry_run else "Imported"
    printing.line(
        f"{would} {len(report.imported)}; {len(report.known)} were in the log already; {len(report.refused)} refused."
    )
