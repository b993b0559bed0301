"""A machine of the test's making, for the detection of the host address: what is resolved, read, routed and answers."""

import asyncio
from collections.abc import Callable, Mapping

from docker.host_edges import Edges
from docker.settings import DockerSettings

DAEMON = "the daemon of DOCKER_HOST"
ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
BRIDGE_ROUTE = ROUTE_HEAD + "eth0\t00000000\t0100FAAC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"  # 172.250.0.1


class World:
    """Changed by the test as it goes; ``edges`` looks at what is there at that moment."""

    def __init__(
        self,
        *,
        names: Mapping[str, list[str]] = {},
        files: Mapping[str, str] = {},
        own: str = "172.250.0.7",
        daemons: Mapping[str, str] = {},
        container: bool = True,
    ) -> None:
        self.names = dict(names)
        self.files = {"/.dockerenv": ""} if container else {}
        self.files |= files
        self.own: str | Callable[[str], str] = own
        self.daemons = dict(daemons)  # address -> which daemon answers there
        self.asked: list[str] = []
        self.late: list[str] = []  # who misses that many handshakes, an entry each

    @property
    def edges(self) -> Edges:
        return Edges(
            read=self._read,
            exists=lambda path: path in self.files,
            resolve=self._resolve,
            own_address=self._own_address,
            identity=self._identity,
        )

    def _read(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory") from None

    async def _resolve(self, name: str) -> list[str]:
        try:
            return self.names[name]
        except KeyError:
            raise OSError("Name or service not known") from None

    def _own_address(self, towards: str) -> str:
        if callable(self.own):
            return self.own(towards)
        if not self.own:
            raise OSError(101, "Network is unreachable")
        return self.own

    async def _identity(self, settings: DockerSettings, host: str) -> str | None:
        self.asked.append(host)
        await asyncio.sleep(0)  # others have their turn, as while a network is asked
        if host in self.late:
            self.late.remove(host)
            return None
        return self.daemons.get(host)
