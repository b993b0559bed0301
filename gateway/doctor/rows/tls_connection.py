"""Whether the daemon can be used over mutual TLS, and if not why: ``docker/diagnose.py``."""

from typing import Final

from gateway.doctor.row import Finding, Row, failed, passed, warned
from gateway.doctor.surroundings import Surroundings


async def _look(here: Surroundings) -> Finding:
    found = await here.diagnosis()
    facts = {"verdict": found.verdict, "address": found.address, "steps": found.steps, "seen": found.facts}
    if not found.usable:
        return failed(found.sentence, found.todo, **facts)
    if found.warnings:
        return warned(found.sentence, " ".join(found.warnings), **facts)
    return passed(found.sentence, **facts)


ROW: Final = Row(name="tls-connection", look=_look, seconds=6)
