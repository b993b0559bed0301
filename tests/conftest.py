"""What every test has: the rooms' fixtures, hypothesis' profile, a report of what did not run, a guard on leftovers."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

_FIXTURES = ("postgres_fixtures", "docker_fixtures", "event_fixtures", "debian_fixtures", "gateway_fixtures")
pytest_plugins = [
    "pytester",  # for the tests of the next three
    "tests.counts",
    "tests.not_run",
    "tests.leftovers",
    *(f"tests.{name}" for name in _FIXTURES if (Path(__file__).parent / f"{name}.py").exists()),
]

# No deadline: two shared cores stall a step for longer than any limit that would still mean something.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("quick", deadline=None, max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "here"))

# Where tests wait for whole gateways, real processes or the clock: together most of the suite's time. `make quick`
# leaves them out, `make test` runs them.
_PATIENT: Final = (
    "contracts/test_docker_service.py",
    "contracts/test_event_store.py",
    "contracts/test_event_store_away.py",
    "contracts/test_event_store_reading.py",
    "contracts/test_event_store_search.py",
    "docker/agent/",
    "docker/scripts/",
    "docker/test_diagnose",
    "docker/test_image.py",
    "docker/test_local",
    "events/test_breaker",
    "events/test_fallback.py",
    "events/test_file_lock.py",
    "events/test_jsonfile.py",
    "events/test_rejected.py",
    "events/test_takeover.py",
    "failures/",
    "gateway/access/test_",
    "gateway/api/",
    "gateway/cli/",
    "gateway/doctor/",
    "gateway/proxy/test_client.py",
    "gateway/proxy/test_exchange",
    "gateway/proxy/test_handler",
    "gateway/proxy/test_http.py",
    "gateway/proxy/test_pool.py",
    "gateway/proxy/test_upstream.py",
    "gateway/proxy/test_websocket",
    "gateway/sessions/test_handler",
    "gateway/sessions/test_runner",
    "gateway/test_",
    "gateway/workers/",
    "house/",
    "projections/test_views",
    "test_counts.py",
    "test_house.py",
    "test_leftovers.py",
    "test_not_run.py",
    "walks/",
    "wire/",
)
# Patient by their folder, quick by themselves.
_QUICK: Final = (
    "failures/test_verdict.py",
    "gateway/api/test_shapes.py",
    "gateway/test_settings.py",
    "gateway/test_errors.py",
    "gateway/test_redaction",
)


def _is_patient(path: Path) -> bool:
    here = Path(__file__).parent
    place = path.relative_to(here).as_posix() if path.is_relative_to(here) else ""
    return place.startswith(_PATIENT) and not place.startswith(_QUICK)


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark the patient ones, by where they stand."""
    for item in items:
        if _is_patient(item.path):
            item.add_marker(pytest.mark.patient)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``make quick`` does not even import them: that alone would take half its time."""
    left_out = "or patient or" in str(config.getoption("markexpr"))
    return True if left_out and collection_path.is_file() and _is_patient(collection_path) else None
