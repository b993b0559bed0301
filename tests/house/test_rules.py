"""Each house rule finds what was planted for it: a rule that sees nothing passes for ever."""

from collections.abc import Callable, Iterator

import pytest

from tests.house import pages, rules, tree
from tests.house.tree import Module

LONG_BODY = "\n".join(f"    x{number} = {number}" for number in range(61))
DOCUMENTED = '"""Says what it is."""\n'


def breaches(rule: Callable[[Module], Iterator[str]], text: str, path: str = "events/planted.py") -> list[str]:
    return list(rule(tree.parse(path, text)))


@pytest.mark.parametrize(
    "text",
    ["\n" * 401, f"def f():\n{LONG_BODY}\n", "class C:\n" + "    x = 1\n" * 251],
    ids=["module", "function", "class"],
)
def test_what_is_too_long_is_seen(text: str) -> None:
    assert len(breaches(rules.sizes, text)) == 1


def test_signature_and_docstring_do_not_count_as_body() -> None:
    body = LONG_BODY.rpartition("\n")[0]
    assert breaches(rules.sizes, f'def f(\n    a: int,\n) -> None:\n    """One.\n\n    Two.\n    """\n{body}\n') == []


@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n",
        f"{DOCUMENTED}class C:\n    def f(self): ...\n",
        f"{DOCUMENTED}from typing import Protocol\nclass C(Protocol):\n    x: int\n",
        DOCUMENTED + "def f():\n" + "    x = 1\n" * 9,
        f'{DOCUMENTED}class C:\n    """A class."""\n    def f(self):\n' + "        x = 1\n" * 9,
    ],
    ids=["module", "class", "protocol", "function", "method"],
)
def test_an_untold_promise_is_seen(text: str) -> None:
    assert len(breaches(rules.missing_docstrings, text)) == 1


def test_what_a_protocol_promises_is_not_told_again() -> None:
    """``append`` stands in EventStore, whatever class implements it."""
    text = f'{DOCUMENTED}class C:\n    """A store."""\n    async def append(self):\n' + "        x = 1\n" * 9
    assert breaches(rules.missing_docstrings, text) == []


@pytest.mark.parametrize("name", ["utils", "string_helpers", "data"])
def test_an_empty_file_name_is_seen(name: str) -> None:
    assert len(breaches(rules.empty_names, "", f"events/{name}.py")) == 1


@pytest.mark.parametrize("text", ["class SessionManager: ...", "def read_helper(): ...", "def process(): ..."])
def test_an_empty_name_is_seen(text: str) -> None:
    assert len(breaches(rules.empty_names, text)) == 1


@pytest.mark.parametrize(
    "text", ["import contextlib\n@contextlib.contextmanager\ndef managed(): ...", "def utility(): ..."]
)
def test_a_word_that_only_sounds_alike_passes(text: str) -> None:
    assert breaches(rules.empty_names, text) == []


@pytest.mark.parametrize("after", ["", "[arg-type]", "[arg-type]  # why", ": E501"])
def test_a_silenced_check_without_code_and_reason_is_seen(after: str) -> None:
    silencer = "no" + "qa" if after.startswith(":") else "type: " + "ignore"
    assert len(breaches(rules.bare_ignores, f"x = 1  # {silencer}{after}\n")) == 1


def test_a_silenced_check_with_code_and_reason_passes() -> None:
    text = "x = 1  # type: " + "ignore[arg-type]  # the stub lags behind the library\n"
    assert breaches(rules.bare_ignores, text) == []


@pytest.mark.parametrize(
    "text",
    ["import asyncpg", "from asyncpg.pool import Pool", "from opentelemetry import sdk", "def f():\n    import httpx"],
)
def test_another_door_is_seen(text: str) -> None:
    config = pages.config()
    allowed, exempt = rules.doors(config), rules.exempt_modules(config)
    assert breaches(lambda module: rules.wrong_doors(module, allowed, exempt), text)


def test_a_door_is_one_for_its_own_library_only() -> None:
    """Ruff would let it pass: its exception is for a file, not for a library in it."""
    config = pages.config()
    allowed, exempt = rules.doors(config), rules.exempt_modules(config)
    planted = tree.parse("events/postgres.py", "import asyncpg\nimport httpx\n")
    assert [breach.split()[2] for breach in rules.wrong_doors(planted, allowed, exempt)] == ["httpx;"]


def test_only_what_runs_needs_a_test() -> None:
    assert rules.only_declares(tree.parse("events/x.py", "class E(Exception):\n    def f(self):\n        return 1\n"))
    assert not rules.only_declares(tree.parse("events/x.py", "def f():\n    x = 1\n    return x\n"))
