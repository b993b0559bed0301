"""``python -m gateway.healthcheck``: whether the gateway of this container can serve, for the image's HEALTHCHECK.

Asks ``/readyz`` at GATEWAY_BIND and loads nothing but the standard library, since it runs every few seconds. The exit
code is 0 when the gateway is ready, 1 when it is not: it drains, or the log has been away for too long.
"""

import http.client
import os
import sys
from collections.abc import Mapping
from typing import Final

SECONDS: Final = 3.0
BIND: Final = "127.0.0.1:8000"  # GATEWAY_BIND's default
_EVERY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Ask once; the exit code."""
    host, _, port = environment.get("GATEWAY_BIND", BIND).rpartition(":")
    host = host.strip("[]")
    try:
        connection = http.client.HTTPConnection(_EVERY.get(host, host), int(port), timeout=SECONDS)
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"The gateway does not answer: {error}.")
        return 1
    print(f"The gateway answered {status}.")
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
