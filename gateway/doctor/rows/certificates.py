"""Whether our certificate files can be used, who may read them, and until when they hold: ``docker/cert_checks.py``."""

import datetime as dt
from typing import Final

from docker.cert_checks import Check, State, check, worst
from docker.cert_report import find
from gateway.doctor.row import Finding, Row, failed, passed, warned
from gateway.doctor.surroundings import NoDaemon, Surroundings


async def _look(here: Surroundings) -> Finding:
    if not here.names_a_daemon:
        raise NoDaemon("DOCKER_HOST is empty: no certificates are used.")
    settings = here.settings().docker
    return judged(check(find(settings), settings, dt.datetime.now(dt.UTC)))


def judged(checks: list[Check]) -> Finding:
    """The worst of them, with what to do about each that is as bad."""
    state = worst(checks)
    told = [one for one in checks if one.state is state]
    sentence = " ".join(dict.fromkeys(one.sentence for one in told))
    todo = " ".join(dict.fromkeys(one.todo for one in told if one.todo))
    match state:
        case State.FAIL:
            return failed(sentence, todo, checks=checks)
        case State.WARN:
            return warned(sentence, todo, checks=checks)
        case _:
            return passed(f"All {len(checks)} checks pass: python -m gateway certs check shows them.", checks=checks)


ROW: Final = Row(name="certificates", look=_look, seconds=5)
