"""``keys``: makes, lists and revokes API keys, in the log itself: no gateway is needed, and every gateway follows."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
import typer

from events.envelope import KEYS
from gateway.access.keys import new_key, revoked
from gateway.access.roles import Role
from gateway.cli import printing
from gateway.cli.client import run
from gateway.cli.direct import CLI, Direct, open_log
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import DryRun, Json, family
from projections import asof
from projections.api_keys import ApiKey, ApiKeys

app = family("Make, list and revoke API keys, in the log itself.")
MAX_NAME: Final = 100
_SPAN: Final = re.compile(r"(\d{1,5})([mhdw])\Z", re.ASCII)
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
Name = Annotated[str, typer.Option(help="Names the key, not a person: it is in every event that the key causes.")]


class Created(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was made; the only time that it is shown. None of a dry run."""

    key_id: str | None
    name: str
    role: str
    expires_at: datetime | None
    key: str | None
    position: int | None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A key without what opens."""

    key_id: str
    name: str
    role: str
    state: str  # in force, expired, revoked
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@app.command()
def create(
    role: Annotated[Role, typer.Option(help="What the key may do.")],
    name: Name,
    expires: Annotated[str | None, typer.Option(metavar="SPAN", help="When it ends, as 12h, 30d or 8w.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a key and print it, once: the log keeps only its hash."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise Failure(Exit.USAGE, f"--name has 1 to {MAX_NAME} printable characters.")
    expires_at = None if expires is None else datetime.now(UTC) + span(expires)
    made = run(_create(name, role, expires_at, dry_run))
    if json:
        printing.document(made)
    elif made.key is None:
        printing.line(f"Would make a key {name} with the role {role}; it ends: {printing.when(expires_at)}.")
    else:
        printing.note(f"Key {made.key_id} ({name}, {role}); it ends: {printing.when(expires_at)}. Shown only now:")
        printing.line(made.key)


@app.command("list")
def list_(json: Json = False) -> None:
    """Every key that was ever made, and whether it opens anything."""
    found = run(_list())
    if json:
        printing.document(found)
        return
    rows = [
        [one.key_id, one.name, one.role, one.state, *map(printing.when, (one.created_at, one.expires_at))]
        for one in found
    ]
    printing.table(["key", "name", "role", "state", "created", "ends"], rows)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As keys list shows it; never the key itself.")],
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """End a key for good. A key that has ended already is no error; one that is not known gives exit code 1."""
    known, position = run(_revoke(key_id, dry_run))
    if json:
        already = known.revoked_at is not None
        printing.document({"key_id": key_id, "name": known.name, "already": already, "position": position})
    elif known.revoked_at is not None:
        printing.line(f"Key {key_id} ({known.name}) was revoked already, {printing.when(known.revoked_at)}.")
    else:
        printing.line(f"{'Would revoke' if dry_run else 'Revoked'} key {key_id} ({known.name}, {known.role}).")


def span(text: str) -> timedelta:
    """A length of time, as 30d. Raises Failure."""
    found = _SPAN.match(text)
    if found is None or int(found[1]) == 0:
        raise Failure(Exit.USAGE, f"--expires: {text!r} is not a length of time such as 90m, 12h, 30d or 8w.")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


async def _create(name: str, role: Role, expires_at: datetime | None, dry_run: bool) -> Created:
    async with open_log() as log:
        if dry_run:
            return Created(key_id=None, name=name, role=role.value, expires_at=expires_at, key=None, position=None)
        fresh = new_key(name, role, expires_at)
        position = await log.recorder.fact(KEYS, fresh.created, who=CLI)
        return Created(
            key_id=fresh.created.key_id,
            name=name,
            role=role.value,
            expires_at=expires_at,
            key=fresh.key,
            position=position,
        )


async def _list() -> list[Listed]:
    async with open_log(if_forked="warn") as log:
        now = log.recorder.now()
        return [_listed(key, now) for key in sorted((await _keys(log)).values(), key=lambda key: key.created_at)]


async def _revoke(key_id: str, dry_run: bool) -> tuple[ApiKey, int | None]:
    """The key as it was before, and the position of its end, when there is a new one."""
    async with open_log() as log:
        known = (await _keys(log)).get(key_id)
        if known is None:
            raise Failure(Exit.NEGATIVE, f"There is no key {printing.shown(key_id)}.")
        if dry_run or known.revoked_at is not None:
            return known, None
        return known, await log.recorder.fact(KEYS, revoked(key_id), who=CLI)


async def _keys(log: Direct) -> dict[str, ApiKey]:
    return await asof.as_of(log.storage.store, ApiKeys(), (await log.storage.store.head()).position)


def _listed(key: ApiKey, now: datetime) -> Listed:
    expired = key.expires_at is not None and now >= key.expires_at
    return Listed(
        key_id=key.key_id,
        name=key.name,
        role=key.role,
        state="revoked" if key.revoked_at else "expired" if expired else "in force",
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
    )
