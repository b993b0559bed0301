"""``projections status``: every projection, how much it holds, and how far it has read."""

import pytest

from events.memory import MemoryEventStore
from gateway.cli.exits import Exit
from projections.views import Views
from tests.gateway.cli.conftest import run

pytestmark = pytest.mark.postgres


@pytest.mark.usefixtures("database_variables")
def test_every_projection_stands_at_the_head() -> None:
    key = run("keys", "create", "--role", "auditor", "--name", "audit", "--json").document
    status = run("projections", "status", "--json").document
    known = {projection.name: projection.version for projection, _ in Views(MemoryEventStore()).folds}
    assert {one["name"]: one["version"] for one in status["projections"]} == known
    assert {(one["position"], one["lag"]) for one in status["projections"]} == {(status["head"], 0)}
    assert status["head"] == key["position"]
    assert {one["name"]: one["states"] for one in status["projections"]}["api_keys"] == 1


@pytest.mark.usefixtures("database_variables")
def test_a_person_gets_a_table() -> None:
    ran = run("projections", "status")
    assert ran.code == Exit.OK
    assert ran.out.splitlines()[0].split() == ["projection", "version", "states", "position", "lag"]
    assert ran.out.splitlines()[-1].endswith("ends at position 0.")
