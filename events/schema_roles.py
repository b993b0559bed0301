"""Whom the log belongs to and who works on it: decided from what the database has, written as SQL. No I/O."""

from typing import Final

import msgspec

from events.errors import SchemaMissing

OWNER_ROLE: Final = "session_gateway_owner"
APP_ROLE: Final = "session_gateway_app"
AUDITOR_ROLE: Final = "session_gateway_auditor"

# $1: whom the gateway connects as. pg_has_role is strict: null where one of the two does not exist.
QUERY: Final = f"""
select m.rolname::text as me, m.rolsuper or m.rolcreaterole as may_make, w.rolname::text as log_owner,
       a.oid is not null as user_exists, coalesce(a.rolsuper, false) as user_is_super,
       o.oid is not null as owner_exists, p.oid is not null as app_exists, u.oid is not null as auditor_exists,
       coalesce(pg_has_role(m.oid, o.oid, 'member'), false) as me_in_owner_role,
       coalesce(pg_has_role(m.oid, w.oid, 'member'), false) as me_in_log_owner,
       coalesce(pg_has_role(a.oid, o.oid, 'member'), false) as user_in_owner_role,
       coalesce(pg_has_role(a.oid, w.oid, 'member'), false) as user_in_log_owner,
       coalesce(pg_has_role(a.oid, m.oid, 'member'), false) as user_in_me,
       coalesce(pg_has_role(a.oid, p.oid, 'member'), false) as user_in_app_role,
       coalesce(has_database_privilege(o.oid, current_database(), 'create'), false) as owner_may_create,
       current_database()::text as database
  from pg_roles m
  left join pg_roles a on a.rolname = $1
  left join pg_roles o on o.rolname = '{OWNER_ROLE}'
  left join pg_roles p on p.rolname = '{APP_ROLE}'
  left join pg_roles u on u.rolname = '{AUDITOR_ROLE}'
  left join pg_namespace n on n.nspname = 'log'
  left join pg_roles w on w.oid = n.nspowner
 where m.rolname = current_user
"""


class Found(msgspec.Struct, frozen=True):
    """The row that QUERY answers."""

    me: str
    may_make: bool
    log_owner: str | None
    user_exists: bool
    user_is_super: bool
    owner_exists: bool
    app_exists: bool
    auditor_exists: bool
    me_in_owner_role: bool
    me_in_log_owner: bool
    user_in_owner_role: bool
    user_in_log_owner: bool
    user_in_me: bool
    user_in_app_role: bool
    owner_may_create: bool
    database: str


class Roles(msgspec.Struct, frozen=True):
    """Who is who; ``statements`` make them so."""

    me: str
    owner: str
    app: str  # whom the rights are given to
    may_change: bool  # we are the owner, or may act as him
    separated: bool  # the gateway may not
    statements: tuple[str, ...]


def roles(found: Found, app_user: str) -> Roles:
    """Whose the log is: as it was made, else of a role of its own where we may make one, else ours.

    Raises SchemaMissing when ``app_user`` does not exist.
    """
    if not found.user_exists:
        raise SchemaMissing(
            f"this Postgres has no role {app_user}: create it (create role {quoted(app_user)} login), or set DB_USER"
        )
    own_role = found.may_make and found.me != app_user and found.log_owner in (None, OWNER_ROLE)
    if own_role:
        owner, may_change, same = OWNER_ROLE, True, found.user_in_owner_role
    elif found.log_owner is None:
        owner, may_change, same = found.me, True, found.user_in_me
    else:
        owner, may_change, same = found.log_owner, found.me_in_log_owner, found.user_in_log_owner
    return Roles(
        found.me,
        owner,
        APP_ROLE if owner == OWNER_ROLE else app_user,
        may_change,
        separated=not (same or found.user_is_super),
        statements=tuple(_statements(found, app_user)) if own_role else (),
    )


def _statements(found: Found, app_user: str) -> list[str]:
    """What is missing of the three roles and of who is in them."""
    wanted = {
        _create(OWNER_ROLE): found.owner_exists,
        _create(APP_ROLE): found.app_exists,
        _create(AUDITOR_ROLE): found.auditor_exists,
        f"grant {OWNER_ROLE} to current_user": found.me_in_owner_role,
        f"grant create on database {quoted(found.database)} to {OWNER_ROLE}": found.owner_may_create,
        f"grant {APP_ROLE} to {quoted(app_user)}": found.user_in_app_role,
    }
    return [statement for statement, done in wanted.items() if not done]


def _create(role: str) -> str:
    """Another database of this server may make it meanwhile: roles are the server's."""
    return (
        f"do $$ begin create role {role} nologin; exception when duplicate_object or unique_violation then null; end $$"
    )


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string in SQL."""
    return "'" + text.replace("'", "''") + "'"
