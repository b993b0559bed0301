"""Calls that change the file system, one after the other: seen, or the last that a process makes."""

import os
from collections.abc import Callable
from typing import Any

import pytest

CALLS = ("chmod", "fchmod", "fchown", "fsync", "link", "mkdir", "open", "replace", "rmdir", "symlink", "unlink")


class Killed(BaseException):
    """Stands for the end of the process: nothing that it would still do has an effect."""


class Steps:
    """Counts the calls. ``seen`` is told before each; from the one of number ``last`` on every call fails."""

    def __init__(self, last: int | None = None, seen: Callable[[], object] | None = None) -> None:
        self.made = 0
        self._last, self._seen, self._within = last, seen, False

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            if self._within:
                return call(*arguments, **named)
            self.made += 1
            if self._last is not None and self.made >= self._last:
                raise Killed
            if self._seen is not None:
                self._within = True
                try:
                    self._seen()
                finally:
                    self._within = False
            return (
                None if call.__name__ == "fsync" else call(*arguments, **named)
            )  # a test need not survive a power cut

        return counted


def until_done(work: Callable[[], object], before: Callable[[], object], after: Callable[[], object]) -> int:
    """Do ``work`` over and over, killed one call later each time, until it comes to its end; how often it was killed.

    ``before`` and ``after`` stand around each try.
    """
    kills = 0
    while True:
        before()
        with pytest.MonkeyPatch.context() as patch:
            Steps(last=kills + 1).install(patch)
            try:
                work()
            except Killed:
                kills += 1
            else:
                return kills
        after()
