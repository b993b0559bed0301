"""Where the gateway reaches published ports, and by which of the five methods that was found."""

from typing import Final

from docker import host_report
from gateway.doctor.row import Finding, Row, failed, passed, warned
from gateway.doctor.surroundings import NoDaemon, Surroundings


async def _look(here: Surroundings) -> Finding:
    if not here.names_a_daemon:
        raise NoDaemon("DOCKER_HOST is empty: local sessions are reached on loopback.")
    told = await host_report.report(here.settings().docker)
    facts = {"in_container": told.in_container, "answers": told.answers}
    if told.found is None:
        return failed(told.problem, "Give HOST_IP: where published ports are reached from here.", **facts)
    if told.doubt:
        return warned(told.doubt, "See it with the row docker-service, which speaks to a container.", **facts)
    return passed(f"Published ports are reached at {told.found}.", **facts)


ROW: Final = Row(name="host-ip", look=_look, seconds=15)
