"""Whose the log is, decided from what the database says; that it holds there, ``test_schema_rights`` tries."""

import msgspec
import pytest

from events.errors import SchemaMissing
from events.schema_roles import APP_ROLE, OWNER_ROLE, Found, literal, quoted, roles

EMPTY = Found(
    me="admin",
    may_make=True,
    log_owner=None,
    user_exists=True,
    user_is_super=False,
    owner_exists=False,
    app_exists=False,
    auditor_exists=False,
    me_in_owner_role=False,
    me_in_log_owner=False,
    user_in_owner_role=False,
    user_in_log_owner=False,
    user_in_me=False,
    user_in_app_role=False,
    owner_may_create=False,
    database="d",
)
MADE = msgspec.structs.replace(
    EMPTY,
    log_owner=OWNER_ROLE,
    owner_exists=True,
    app_exists=True,
    auditor_exists=True,
    me_in_owner_role=True,
    me_in_log_owner=True,
    user_in_app_role=True,
    owner_may_create=True,
)


def found(of: Found, **fields: object) -> Found:
    return msgspec.structs.replace(of, **fields)


def test_admin_gives_the_log_to_a_role_of_its_own() -> None:
    made = roles(EMPTY, "app")
    assert (made.owner, made.app, made.may_change, made.separated) == (OWNER_ROLE, APP_ROLE, True, True)
    assert len(made.statements) == 6 and 'grant create on database "d"' in made.statements[4]


def test_nothing_is_granted_twice() -> None:
    """A start that finds all done writes nothing to the server's catalogs."""
    assert roles(MADE, "app").statements == ()


def test_new_working_user_is_let_in() -> None:
    assert roles(found(MADE, user_in_app_role=False), "b").statements == (f'grant {APP_ROLE} to "b"',)


def test_working_user_alone_owns_his_log() -> None:
    made = roles(found(EMPTY, me="app", may_make=False, user_in_me=True), "app")
    assert (made.owner, made.app, made.may_change, made.separated) == ("app", "app", True, False)


def test_admin_without_the_right_to_make_roles_owns_the_log() -> None:
    made = roles(found(EMPTY, may_make=False), "app")
    assert (made.owner, made.app, made.separated, made.statements) == ("admin", "app", True, ())


def test_working_user_changes_nothing_of_a_separated_log() -> None:
    made = roles(found(MADE, me="app", may_make=False, me_in_log_owner=False, me_in_owner_role=False), "app")
    assert (made.owner, made.may_change, made.separated) == (OWNER_ROLE, False, True)


def test_superuser_is_never_separated() -> None:
    assert not roles(found(EMPTY, user_is_super=True), "app").separated


def test_working_user_that_does_not_exist_is_told() -> None:
    with pytest.raises(SchemaMissing, match=r'no role a"b: create it .create role "a""b" login., or set DB_USER'):
        roles(found(EMPTY, user_exists=False), 'a"b')


def test_names_and_texts_are_quoted() -> None:
    assert (quoted('a"b'), literal("it's")) == ('"a""b"', "'it''s'")
