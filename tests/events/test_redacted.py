"""Structs that hide their secrets: however they are shown, alone or within another one."""

from typing import ClassVar

import msgspec

from events.redacted import Redacted

PLANTED = "planted-secret-value"


class Login(Redacted, frozen=True, kw_only=True):
    SECRET: ClassVar[frozenset[str]] = frozenset({"word"})

    name: str = ""
    word: str = ""


class Outer(msgspec.Struct, frozen=True):
    login: Login


def test_a_secret_is_hidden_and_the_rest_is_shown() -> None:
    login = Login(name="ada", word=PLANTED)
    assert repr(login) == str(login) == "Login(name='ada', word='[redacted]')"
    assert login.__rich_repr__() == [("name", "ada"), ("word", "[redacted]")]
    assert PLANTED not in f"{Outer(login)!r}{[login]}{msgspec.structs.replace(login, name='eve')}"


def test_whether_there_is_a_secret_is_shown() -> None:
    """What a reader of a traceback wants to know."""
    assert repr(Login(name="ada")) == "Login(name='ada', word='')"
