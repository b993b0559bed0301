"""Whether a running gateway has connections to containers to spare."""

from typing import Any, Final

from gateway.doctor.health import figures
from gateway.doctor.row import Finding, Row, passed, warned
from gateway.doctor.surroundings import Surroundings

NEARLY: Final = 0.9


async def _look(here: Surroundings) -> Finding:
    return judged((await figures(here))["http_connection_pool"])


def judged(pool: dict[str, Any]) -> Finding:
    """What the pool's figures of ``/health`` mean."""
    in_use, most = pool["busy"] + pool["idle"], pool["max_connections"]
    exchanges = pool["opened"] + pool["reused"]
    sentence = (
        f"{in_use} of {most} connections are open, {pool['streams']} of {pool['max_streams']} streams; "
        f"{pool['reused']} of {exchanges} requests found one that was open."
    )
    if pool["waiting"]:
        return warned(
            f"{pool['waiting']} requests wait for a connection: {sentence}",
            "Raise PROXY_MAX_CONNECTIONS, or find what hangs.",
            **pool,
        )
    if pool["streams"] >= NEARLY * pool["max_streams"]:
        return warned(sentence, "Raise PROXY_MAX_STREAMS: 503 gateway-busy follows.", **pool)
    return passed(sentence, **pool)


ROW: Final = Row(name="http-connection-pool", look=_look, seconds=15)
