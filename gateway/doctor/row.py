"""A row: one thing that is looked at, and what was found."""

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from gateway.doctor.surroundings import Surroundings


class State(enum.StrEnum):
    """How bad it is. SKIP: there was nothing to look at."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Finding(msgspec.Struct, frozen=True):
    """One sentence, what to do about it, and figures for programs. Nothing secret is in any of them."""

    state: State
    sentence: str
    todo: str = ""
    facts: Mapping[str, Any] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """``look`` may raise anything: that is a failure of the row. It must leave nothing behind, also when cancelled."""

    name: str
    look: Callable[[Surroundings], Awaitable[Finding]]
    seconds: float = 30.0
    alone: bool = False  # looked at after all others: what it measures they would disturb


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one row."""

    row: str
    state: State
    sentence: str
    todo: str
    facts: Mapping[str, Any]
    milliseconds: float


def passed(sentence: str, **facts: Any) -> Finding:
    return Finding(State.PASS, sentence, facts=facts)


def warned(sentence: str, todo: str, **facts: Any) -> Finding:
    return Finding(State.WARN, sentence, todo, facts)


def failed(sentence: str, todo: str, **facts: Any) -> Finding:
    return Finding(State.FAIL, sentence, todo, facts)


def skipped(sentence: str, todo: str = "") -> Finding:
    return Finding(State.SKIP, sentence, todo)


class Ended(Exception):
    """Ends a row early with its finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.sentence)
        self.finding = finding
