"""``erase``: destroys the keys of one subject, so that no field sealed for it can ever be read again (spec row C7).

First the keys are destroyed, then ``subject.erased`` tells every gateway to drop its copies: told first, a gateway
could fetch a key again that is about to go, and keep it. Killed between the two, the keys are gone and nobody was told;
nothing says any more whose they were, so every run also tells what it finds in the log sealed under a key that is gone
without a word. Repeating the command is therefore always safe, and is what to do when it did not end well.
"""

import sys
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
import typer

from events import codec
from events.catalogue import (
    ExchangeClosed,
    ExchangeCompleted,
    ExchangeOpened,
    LogRead,
    Payload,
    SessionRequested,
    SubjectErased,
)
from events.codec import Cause
from events.envelope import SYSTEM, RecordedEvent, Sealed, session_stream
from events.ids import uuid7
from events.keyring import Keyring
from events.sealing import Place, SubjectKey, sealed_fields, unseal
from events.store import EventStore
from gateway.cli import printing
from gateway.cli.client import run
from gateway.cli.direct import CLI, Direct, open_log
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import DryRun, Json, Yes, family
from gateway.recorder import ACTOR_FIELD, session_subject, unattributed
from gateway.sessions.folders import FIELD, REQUESTED

app = family("Make a person's fields in the log unreadable for ever.")
PAGE: Final = 2000
MAX_REASON: Final = 200
KEYS_AN_EVENT: Final = 1000  # an event has 64 KiB, a key id 28 bytes
# Sealed by a session that outlives an erasure with keys that were never kept: gone, but nobody erased them.
_THROWN_AWAY: Final = (ExchangeOpened, ExchangeCompleted, ExchangeClosed, LogRead)


class Use(msgspec.Struct):
    """What the log holds under one key. ``names``: whose it is, as fields that it opens say."""

    names: set[str] = msgspec.field(default_factory=set)
    presumed: set[str] = msgspec.field(default_factory=set)  # whose it is where no field says a name
    sessions: set[str] = msgspec.field(default_factory=set)
    folders: set[str] = msgspec.field(default_factory=set)  # of HOST_DIR_ROOT, which no gateway removes
    fields: int = 0
    exists: bool = False
    was_kept: bool = False

    @property
    def subjects(self) -> set[str]:
        return self.names or self.presumed


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What was, or would be, destroyed. ``told_late``: keys of an erasure that had been cut short."""

    subject: str
    key_ids: list[str]
    fields: int
    sessions: list[str]
    folders: list[str]
    told_late: list[str]
    dry_run: bool


@app.command()
def erase(
    subject: Annotated[str, typer.Argument(help="The owner, or the person acted for, as the frontend gave the name.")],
    reason: Annotated[str, typer.Option(help="Stands in the log for ever: no name.")] = "asked",
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Destroy a person's keys: their fields in the log, and in every backup of it, can never be read again.

    Exit code 1 when there is nothing under that name. Safe to repeat, and to be repeated when it was interrupted. The
    files of the person's sessions are removed by a gateway, one that runs or the next to start, when those have ended;
    folders of the host that were workspaces are named here, for the last time, and stay.
    """
    if not subject:
        raise Failure(Exit.USAGE, "SUBJECT is empty.")
    if not reason or len(reason) > MAX_REASON or not reason.isprintable():
        raise Failure(Exit.USAGE, f"--reason has 1 to {MAX_REASON} printable characters.")
    if not dry_run and not yes:
        _ask(subject)
    found = run(_erase(subject, reason, dry_run))
    if json:
        printing.document(found)
    else:
        _tell(found)
    if not found.key_ids and not found.told_late:
        raise typer.Exit(Exit.NEGATIVE)


async def _erase(subject: str, reason: str, dry_run: bool) -> Erasure:
    async with open_log() as log:
        uses = await survey(log.storage.store, log.storage.keyring)
        if dry_run:
            kept = await log.storage.keyring.key_of(subject)  # also one that nothing is sealed under yet
            used = {key_id for key_id, use in uses.items() if use.exists and subject in use.subjects}
            theirs: tuple[str, ...] = tuple(used | ({kept.id} if kept else set()))
        else:
            theirs = await log.storage.keyring.erase(subject)
        told = await _told(log.storage.store)
        own = await _session_itself(log.storage.store, subject)
        unsaid = [own] if own is not None and own not in told else []
        late = [*_untold(uses, told), *([] if theirs else unsaid)]
        if not dry_run:
            await _say(log, sorted({*theirs, *late, *unsaid}), reason)
        known = [uses[key_id] for key_id in theirs if key_id in uses]
        return Erasure(
            subject=subject,
            key_ids=sorted(theirs),
            fields=sum(use.fields for use in known),
            sessions=sorted({*unsaid, *(session for use in known for session in use.sessions)}),
            folders=sorted({folder for use in known for folder in use.folders}),
            told_late=late,
            dry_run=dry_run,
        )


async def _say(log: Direct, key_ids: list[str], reason: str) -> None:
    cause = Cause(correlation_id=uuid7())  # one for the run
    for start in range(0, len(key_ids), KEYS_AN_EVENT):
        erased = SubjectErased(key_ids=tuple(key_ids[start : start + KEYS_AN_EVENT]), reason=reason)
        await log.recorder.fact(SYSTEM, erased, who=CLI, cause=cause)


async def _session_itself(store: EventStore, subject: str) -> str | None:
    """The id of the session that is this subject: opened for nobody, so that its fields, if any, name no person."""
    session_id = subject.removeprefix(session_subject(""))
    if session_id == subject:
        return None
    for event in await store.read_stream(session_stream(session_id), limit=1):
        payload = codec.decode(event)
        if isinstance(payload, SessionRequested) and payload.owner is None:
            return session_id
    return None


async def _told(store: EventStore) -> set[str]:
    """Whose erasure the log tells: keys, and sessions that were their own subject."""
    told: set[str] = set()
    after = 0
    while page := await store.read_log(after=after, limit=PAGE, types=("subject.erased",)):
        for event in page:
            payload = codec.decode(event)
            told.update(payload.key_ids if isinstance(payload, SubjectErased) else ())
        after = page[-1].position
    return told


def _untold(uses: dict[str, Use], told: set[str]) -> list[str]:
    """Keys that were kept once, are gone, and of which no event says so."""
    gone = (key_id for key_id, use in uses.items() if use.was_kept and not use.exists)
    return sorted(key_id for key_id in gone if key_id not in told)


async def survey(store: EventStore, keyring: Keyring) -> dict[str, Use]:
    """Every key that a field of the log is sealed under, by key id."""
    uses: dict[str, Use] = {}
    after = 0
    while page := await store.read_log(after=after, limit=PAGE):
        decoded = [(event, codec.decode(event)) for event in page]
        fields = [
            (event, payload, name, sealed) for event, payload in decoded for name, sealed in _sealed(event, payload)
        ]
        keys = await keyring.keys({sealed.k for _, _, _, sealed in fields})
        for event, payload, name, sealed in fields:
            use = uses.setdefault(sealed.k, Use())
            _note(use, event, payload, name, sealed, keys.get(sealed.k))
        after = page[-1].position
    return uses


def _sealed(event: RecordedEvent, payload: Payload | codec.Unknown) -> Iterator[tuple[str, Sealed]]:
    actor = codec.decode_actor(event)
    if actor.on_behalf_of is not None:
        yield ACTOR_FIELD, actor.on_behalf_of
    if not isinstance(payload, codec.Unknown):
        yield from sealed_fields(payload).items()


def _note(
    use: Use,
    event: RecordedEvent,
    payload: Payload | codec.Unknown,
    name: str,
    sealed: Sealed,
    key: SubjectKey | None,
) -> None:
    """Add one field. An owner, and a person acted for, are sealed under their own key: what it opens is the subject."""
    use.fields += 1
    use.exists = use.exists or key is not None
    use.was_kept = use.was_kept or not isinstance(payload, _THROWN_AWAY) or name == ACTOR_FIELD
    session_id = getattr(payload, "session_id", None)
    if name in (ACTOR_FIELD, "owner"):
        if key is not None:
            use.names.add(unseal(key, sealed, Place(event.stream_id, event.type, name)))
    elif session_id is None or event.type == "access.denied":
        use.presumed.add(unattributed(event.occurred_at))
    else:
        use.presumed.add(session_subject(session_id))
    if name == FIELD and event.type == REQUESTED and key is not None:
        use.folders.add(unseal(key, sealed, Place(event.stream_id, event.type, name)))
    # Who asked for another person's session has no files in it.
    if session_id is not None and name != ACTOR_FIELD and event.type in ("session.requested", "session.imported"):
        use.sessions.add(session_id)


def _ask(subject: str) -> None:
    if not sys.stdin.isatty():
        raise Failure(Exit.USAGE, "Nobody can be asked here: give --yes, or look first with --dry-run.")
    typer.confirm(f"Make everything of {printing.shown(subject)} unreadable for ever?", abort=True, err=True)


def _tell(found: Erasure) -> None:
    would, subject = "Would destroy" if found.dry_run else "Destroyed", printing.shown(found.subject)
    if found.key_ids:
        keys = printing.count(len(found.key_ids), "key")
        printing.line(f"{would} {keys} of {subject}: {found.fields} fields of the log are unreadable without.")
    elif not found.told_late:
        printing.note(f"Nothing is kept under the name {subject}.")
    if found.told_late:
        telling = "Would put" if found.dry_run else "Put"
        printing.line(
            f"{telling} an erasure into the log that had been cut short: {printing.count(len(found.told_late), 'key')}."
        )
    if found.sessions:
        printing.line(
            f"A gateway removes the files of these sessions once they have ended: {', '.join(found.sessions)}."
        )
    if found.folders:
        printing.line(
            "These folders of HOST_DIR_ROOT stay, and nothing says any more whose they are: remove them by hand. "
            + ", ".join(found.folders)
        )
