"""Every row of the doctor: a line below and the module of its name (``-`` is ``_`` there), which has ``ROW``.

A row's module is loaded when it is looked at, and no other.
"""

import importlib
from typing import Final, cast

from gateway.doctor.row import Row

ROWS: Final = {
    "settings": "the environment: every setting's name and value",
    "certificates": "our certificate files: use, rights, until when",
    "tls-connection": "the way to the Docker daemon over mutual TLS",
    "socket-mount": "that no Docker socket is within our reach",
    "host-ip": "where published ports are reached, how that was found",
    "docker-service": "a session's container: make, start, ask, stop, remove",
    "resource-limits": "a session's limits and hardening, read back from the daemon",
    "egress": "what a session reaches of the host, the database, link-local services",
    "async-docker": "many Docker operations at once: the loop's lag",
    "database-persistence": "the log: open it, read its end twice, measure the way",
    "structured-logging": "log lines: fields, secrets cut out, where they go",
    "session-auth": "a running gateway: keys and tokens that it does not know",
    "http-connection-pool": "a running gateway's connections to containers",
    "container-health": "a running gateway's runtime and sessions",
}


def row(name: str) -> Row:
    """The row of a name in the table."""
    return cast(Row, importlib.import_module(f"{__name__}.{name.replace('-', '_')}").ROW)
