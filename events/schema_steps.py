"""The SQL that a plan comes to, in order, as text: what ``apply`` runs is what ``--dry-run`` prints. No I/O."""

from collections.abc import Iterator
from typing import Final

import msgspec

from events.errors import EventError, SchemaMissing
from events.schema_plan import MANIFEST, FileState, Plan, Release, SqlFile, State
from events.schema_roles import Roles, literal, quoted

# In "public", since it is there before the schemas are; the gateway reads it, only the migrating role writes it.
# Release 0.1.0 reads and writes file and sha256 alone, and leaves a database with a file that it does not know as it
# is: the manifest's row is such a file.
_HISTORY: Final = """
create table if not exists public.session_gateway_schema (
  file text primary key, sha256 text not null, applied_at timestamptz not null default clock_timestamp());
alter table public.session_gateway_schema
  add column if not exists release text not null default '0.1.0',  -- that ran the file here last
  add column if not exists oldest text;                            -- of the manifest: who may still serve
"""
_KEEP: Final = """insert into public.session_gateway_schema (file, sha256, release, oldest) values
  {rows}
on conflict (file) do update set sha256 = excluded.sha256, release = excluded.release, oldest = excluded.oldest,
  applied_at = clock_timestamp()"""


class SchemaEdited(EventError):
    """A file that is run once differs from what this database was made with; released files are never edited."""


class SchemaTooNew(EventError):
    """A later release has removed from this database what this one needs: it may not serve here any more."""


class Step(msgspec.Struct, frozen=True):
    """A piece of SQL. ``what``: the name of the file, or what it is there for."""

    what: str
    sql: str
    file: bool = False


class Status(msgspec.Struct, frozen=True):
    """How a database stands to this release."""

    release: str
    database: str | None  # the release that it was brought up to; None: it holds no log
    oldest: str | None  # the oldest release that may serve on it
    verdict: str  # "up to date", "pending", "edited", "newer": served as it is, "too new": not served
    role: str  # that migrates
    owner: str  # of the log
    may_change: bool  # the one may act as the other
    rights_separated: bool  # the gateway may not
    files: tuple[FileState, ...]
    steps: tuple[Step, ...]  # what ``apply`` would run

    def check(self) -> None:
        """Whether the steps may be run. Raises SchemaTooNew, SchemaEdited; SchemaMissing when we may not run them."""
        if self.verdict == "too new":
            raise SchemaTooNew(
                f"the database is of release {self.database}, which lets no release before {self.oldest} serve on it, "
                f"and this is {self.release}: start {self.oldest} or a later one"
            )
        if edited := [file.file for file in self.files if file.state is State.EDITED]:
            raise SchemaEdited(f"{', '.join(edited)} differs from what this database was made with: restore the file")
        if any(step.file for step in self.steps) and not self.may_change:
            raise SchemaMissing(
                f"the log is of a former release and belongs to {self.owner}: run the gateway once with DB_ADMIN_URL"
            )


def status(plan: Plan, ours: Release, roles: Roles, *, has_history: bool, partition_size: int | None) -> Status:
    """The plan, who may carry it out, and the steps that this takes."""
    steps = tuple(_steps(plan, ours, roles, has_history=has_history, partition_size=partition_size))
    return Status(
        plan.release,
        plan.database,
        plan.oldest,
        _verdict(plan),
        roles.me,
        roles.owner,
        roles.may_change,
        roles.separated,
        plan.files,
        steps if _verdict(plan) in ("pending", "up to date") else (),
    )


def _verdict(plan: Plan) -> str:
    if plan.newer:
        return "too new" if plan.too_new else "newer"
    if any(file.state is State.EDITED for file in plan.files):
        return "edited"
    return "pending" if plan.run or plan.record else "up to date"


def _steps(plan: Plan, ours: Release, roles: Roles, *, has_history: bool, partition_size: int | None) -> Iterator[Step]:
    yield from (Step("roles", statement) for statement in roles.statements)
    if not (plan.run or plan.record):
        return
    if not has_history:
        grant = f"grant select on public.session_gateway_schema to {quoted(roles.app)};"
        yield Step("history", f"{_HISTORY.strip()}\n{grant}")
    if plan.run:
        yield from _run(plan.run, roles, partition_size)
    yield Step("history", _keep([*plan.run, *plan.renamed], ours))


def _run(files: tuple[SqlFile, ...], roles: Roles, partition_size: int | None) -> Iterator[Step]:
    named = {"gateway.app_role": roles.app, "gateway.partition_size": str(partition_size or "")}
    settings = ", ".join(f"set_config({literal(name)}, {literal(value)}, true)" for name, value in named.items())
    yield Step("settings", f"select {settings}")
    yield Step("owner", f"set local role {quoted(roles.owner)}")
    yield from (Step(file.name, file.text, file=True) for file in files)
    yield Step("owner", "reset role")


def _keep(files: list[SqlFile], ours: Release) -> str:
    release = ours.manifest.release
    rows = [(file.name, file.sha256, literal(release), "null") for file in files]
    rows.append((MANIFEST, ours.sha256, literal(release), literal(ours.manifest.oldest)))
    return _KEEP.format(
        rows=",\n  ".join(f"({literal(name)}, {literal(sha)}, {last}, {oldest})" for name, sha, last, oldest in rows)
    )
