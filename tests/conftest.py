"""What every test has: the rooms' fixtures, hypothesis' profile, a report of what did not run, a guard on leftovers."""

import os
from pathlib import Path

from hypothesis import settings

_FIXTURES = ("postgres_fixtures", "docker_fixtures", "event_fixtures", "gateway_fixtures")
pytest_plugins = [
    "pytester",  # for the tests of the next two
    "tests.not_run",
    "tests.leftovers",
    *(f"tests.{name}" for name in _FIXTURES if (Path(__file__).parent / f"{name}.py").exists()),
]

# No deadline: two shared cores stall a step for longer than any limit that would still mean something.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
