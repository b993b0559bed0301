"""Whose a folder of the host is, and who has it now: given sessions on it, what another one is told."""

from typing import Any

import msgspec
import pytest

from events.envelope import Sealed
from gateway.errors import Refused
from gateway.sessions.decide import Decision, decide
from projections.admission import Seats
from projections.lifecycle import SEATED, Phase
from projections.session_state import SessionState
from tests.gateway.sessions.test_decide import ID, OPEN, RESUME

ADA, BOB = (Sealed(k=f"sk_{name}", n="n", c="c") for name in ("ada", "bob"))
WANTED = msgspec.structs.replace(OPEN, owner=ADA, host_dir=ADA, host_dir_mac="m", volumes=("h",))


def on_it(phase: Phase, **changes: Any) -> SessionState:
    given: dict[str, Any] = {
        "session_id": "other",
        "phase": phase,
        "opened_by": "k1",
        "owner": ADA,
        "host_dir_mac": "m",
    }
    return SessionState(**(given | changes))


def answer(*sharing: SessionState) -> str:
    """What an opening, and a resuming of a stopped session, of the folder come to."""
    mine = on_it(Phase.STOPPED, session_id=ID, generation=1, volumes=("h",))
    said = set()
    for command, state, others in ((WANTED, None, sharing), (RESUME, mine, (*sharing, mine))):
        decision = decide(command, state, Seats(), 3, sharing=others)
        said.add(decision.slug if isinstance(decision, Refused) else "granted")
        assert isinstance(decision, Refused) or decision.grants
    (agreed,) = said
    return agreed


def test_a_folder_nobody_had_is_granted_and_stands_in_the_request() -> None:
    assert answer() == "granted"
    decision = decide(WANTED, None, Seats(), 3)
    assert isinstance(decision, Decision)
    requested: Any = decision.session[0]
    assert (requested.host_dir, requested.host_dir_mac, requested.volumes) == (ADA, "m", ("h",))


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.ABSENT])
def test_one_session_at_a_time_has_it(phase: Phase) -> None:
    assert answer(on_it(phase)) == ("host-dir-in-use" if phase in SEATED else "granted")


def test_the_container_of_a_failed_session_has_it_until_it_is_gone() -> None:
    assert answer(on_it(Phase.FAILED, container_id="c")) == "host-dir-in-use"


@pytest.mark.parametrize("whose", [{"owner": BOB}, {"owner": None}, {"opened_by": "k2"}])
@pytest.mark.parametrize("phase", [Phase.READY, Phase.STOPPED, Phase.FAILED])
def test_it_is_for_ever_its_first_owners(phase: Phase, whose: dict[str, Any]) -> None:
    """What lies in it is theirs, also when their sessions have ended and their data was given up."""
    assert answer(on_it(phase, **whose)) == "host-dir-not-yours"
    assert answer(on_it(Phase.STOPPED), on_it(phase, session_id="third", **whose)) == "host-dir-not-yours"
