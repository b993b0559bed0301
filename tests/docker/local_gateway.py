"""A gateway process for tests to kill: ``python -m tests.docker.local_gateway STATE FALLBACK`` runs one container.

The container "held" serves the echo agent and has a second process that left its group. The address is printed when it
listens; the process then waits to be killed, or for its standard input to end.
"""

import asyncio
import sys
from pathlib import Path

from docker.local import ECHO_COMMAND
from tests.docker.local_factory import local_service


async def hold(state: Path, elsewhere: Path) -> None:
    async with local_service(state, elsewhere=elsewhere) as service:
        script = 'setsid sleep 300 & exec "$0" "$@"'
        command = ("/bin/sh", "-c", script, *ECHO_COMMAND)
        await service.create_container("held", "echo", labels={"session": "s-1"}, command=command)
        await service.start_container("held")
        info = await service.get_container_info("held")
        assert info is not None
        assert info.address is not None
        print(info.address.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(hold(Path(sys.argv[1]), Path(sys.argv[2])))
