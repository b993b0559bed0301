"""Whether the runtime of a running gateway answers and its sessions are well."""

from typing import Any, Final

from gateway.doctor.health import figures
from gateway.doctor.row import Finding, Row, failed, passed, warned
from gateway.doctor.surroundings import Surroundings


async def _look(here: Surroundings) -> Finding:
    return judged(await figures(here))


def judged(health: dict[str, Any]) -> Finding:
    """What the figures of ``/health`` say of containers."""
    sessions = dict(health["sessions"])
    facts = {"runtime": health["runtime"], "sessions": sessions, "seats_taken": health["seats_taken"]}
    if not health["runtime_answers"]:
        return failed(
            f"The runtime ({health['runtime']}) does not answer: no session can be opened, stopped or repaired.",
            "See the row tls-connection.",
            **facts,
        )
    running = sessions.get("running", 0)
    sentence = f"{running} sessions run ({health['runtime']}), {health['seats_taken']} of {health['seats']} seats taken"
    if sessions.get("error"):
        return warned(
            f"{sentence}; {sessions['error']} ended in error.",
            "Read why: python -m gateway events list --type session.failed.",
            **facts,
        )
    return passed(f"{sentence}; none ended in error.", **facts)


ROW: Final = Row(name="container-health", look=_look, seconds=15)
