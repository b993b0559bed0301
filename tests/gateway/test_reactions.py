"""What a process does at once when the log tells of it. That it also happens without is its jobs' to show."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from docker.service import Address
from events.catalogue import (
    ContainerAdopted,
    ContainerDied,
    SessionFailed,
    SessionReady,
    SessionStopped,
    SessionStopRequested,
    SubjectErased,
)
from gateway.reactions import Reaction, on_ends, on_erasures, on_moves, on_stops
from tests.factories import payload, recorded


def told(reaction: Reaction, kind: type[Any]) -> None:
    reaction(recorded(kind), payload(kind))


@pytest.mark.parametrize(
    ("owner", "looks"),
    [(None, True), (SimpleNamespace(ended_at="then"), True), (SimpleNamespace(ended_at=None), False)],
    ids=["of nobody known", "of one that ended", "of one that runs"],
)
def test_a_stop_is_carried_out_here_when_nobody_else_will(owner: Any, looks: bool) -> None:
    """The runner knows which sessions are ours; those of a gateway that is gone need the comparison."""
    services, worker = Mock(), Mock()
    services.views = SimpleNamespace(sessions={"s1": SimpleNamespace(instance="g1")}, gateways={"g1": owner})
    told(on_stops(services, worker), SessionStopRequested)
    services.runner.stop.assert_called_once_with("s1")
    assert worker.poke.called is looks


def test_a_stop_of_a_session_that_is_not_known_is_passed_over() -> None:
    services, worker = Mock(), Mock()
    services.views = SimpleNamespace(sessions={}, gateways={})
    told(on_stops(services, worker), SessionStopRequested)
    assert not services.runner.stop.called and not worker.poke.called


@pytest.mark.parametrize(("kind", "ends"), [(SessionStopped, True), (SessionFailed, True), (SessionReady, False)])
def test_the_sum_of_a_session_is_told_at_its_end(kind: type[Any], ends: bool) -> None:
    services = Mock()
    told(on_ends(services), kind)
    assert services.exchanges.session_ended.called is ends


@pytest.mark.parametrize(
    ("kind", "now", "closes"),
    [
        (ContainerDied, (None, None), True),
        (ContainerAdopted, ("h", 2), True),
        (ContainerAdopted, ("h", 1), False),
        (SessionReady, (None, None), False),
    ],
    ids=["died", "moved", "where it was", "not about its place"],
)
def test_what_is_dialled_for_a_container_ends_with_it(kind: type[Any], now: Any, closes: bool) -> None:
    services, session_id = Mock(), payload(kind).session_id
    services.views = SimpleNamespace(sessions={session_id: SimpleNamespace(host="h", port=1)})
    reaction = on_moves(services)
    services.views.sessions[session_id] = SimpleNamespace(host=now[0], port=now[1])
    told(reaction, kind)
    assert [call.args for call in services.pool.dials.close_address.call_args_list] == (
        [(Address("h", 1),)] if closes else []
    )


def test_an_address_that_another_session_has_by_now_is_left_alone() -> None:
    """Of two gateways the second's start can be told before the first's end."""
    services, session_id = Mock(), payload(ContainerDied).session_id
    services.views = SimpleNamespace(
        sessions={session_id: SimpleNamespace(host="h", port=1), "next": SimpleNamespace(host="h", port=1)}
    )
    reaction = on_moves(services)
    services.views.sessions[session_id] = SimpleNamespace(host=None, port=None)
    told(reaction, ContainerDied)
    assert not services.pool.dials.close_address.called


def test_keys_that_another_process_destroyed_are_dropped() -> None:
    services = Mock()
    told(on_erasures(services), SessionStopped)
    assert not services.keyring.forget.called
    told(on_erasures(services), SubjectErased)
    services.keyring.forget.assert_called_once_with(payload(SubjectErased).key_ids)
    services.followers.forget.assert_called_once_with()
