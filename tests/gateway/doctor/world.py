"""Surroundings as a test wants them: an environment of its own, and a gateway or none."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from gateway.control import GatewayClient, GatewayRefused, Problem
from gateway.doctor.surroundings import NoGateway, Surroundings


def no_gateway() -> GatewayClient:
    raise NoGateway("There is no key.")


def here(environment: Mapping[str, str] | None = None, *, url: str = "", key: str = "") -> Surroundings:
    """No gateway without ``url``."""
    return Surroundings(environment or {}, (lambda: GatewayClient(url, key)) if url else no_gateway)


class Answering(GatewayClient):
    """A gateway that gives set answers; a path without one is refused with ``status``."""

    def __init__(self, answers: Mapping[str, bytes], status: int = 401) -> None:
        self.answers, self.status = answers, status
        self.asked: list[tuple[str, str | None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def call(self, method: str, path: str, **asked: Any) -> bytes:
        self.asked.append((path, asked.get("bearer")))
        if path not in self.answers:
            raise GatewayRefused(Problem(status=self.status, title="No"))
        return self.answers[path]


def beside(client: GatewayClient) -> Surroundings:
    return Surroundings({}, lambda: client)
