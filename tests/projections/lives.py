"""Whole lives of sessions as units to append: what a projector and a starting process meet in a real log."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from events.catalogue import (
    AdmissionGranted,
    AdmissionReleased,
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ExchangeCompleted,
    GatewayStarted,
    Payload,
    SessionReady,
    SessionRequested,
    SessionStopped,
    SessionStopRequested,
    TokenIssued,
)
from events.envelope import ADMISSION, Sealed, StreamWrite, container_stream, gateway_stream, session_stream
from tests.factories import MOMENT, write

_SEALED = Sealed(k="sk_000102030405060708090a0b", n="AAECAwQFBgcICQoL", c="A" * 64)


def opened(session_id: str) -> tuple[StreamWrite, ...]:
    """The unit that grants a session, its seat and its token."""
    fact: dict[str, Any] = {"session_id": session_id, "generation": 1}
    requested = SessionRequested(
        **fact,
        container=f"c-{session_id}",
        image="session/opencode:1",
        runtime="docker",
        volumes=(f"h-{session_id}", f"w-{session_id}"),
        opened_by="k1",
        owner=_SEALED,
        metadata=_SEALED,
        asked=_SEALED,
        instance="gw-0a1b2c3d",
    )
    expires = MOMENT + timedelta(days=1)
    issued = TokenIssued(session_id=session_id, serial=1, sha256="9f" * 32, secret_id="t1", expires_at=expires)
    return (
        write(session_stream(session_id), requested, issued),
        write(ADMISSION, AdmissionGranted(**fact, taken=1, limit=3)),
    )


def started(session_id: str) -> tuple[StreamWrite, ...]:
    fact: dict[str, Any] = {"session_id": session_id, "generation": 1, "container": f"c-{session_id}"}
    container_id = f"{session_id:0>64}"
    return (
        write(
            container_stream(f"c-{session_id}"),
            ContainerCreated(**fact, container_id=container_id, image="session/opencode:1", runtime="docker"),
            ContainerStarted(**fact, container_id=container_id, host="127.0.0.1", port=32_768),
        ),
        write(session_stream(session_id), SessionReady(**fact, boot_us=1_250_000)),
    )


def used(session_id: str, exchanges: int) -> tuple[StreamWrite, ...]:
    """So many requests of it, proxied and answered."""
    done: list[Payload] = [
        ExchangeCompleted(
            session_id=session_id,
            container=f"c-{session_id}",
            exchange_id=f"{session_id}-x{number}",
            method="POST",
            path=_SEALED,
            status=200,
            bytes_in=12,
            bytes_out=345,
            first_byte_us=6_789,
            duration_us=7_890,
            ended_by="container",
            client=_SEALED,
        )
        for number in range(exchanges)
    ]
    return (write(container_stream(f"c-{session_id}"), *done),)


def ended(session_id: str) -> tuple[StreamWrite, ...]:
    fact: dict[str, Any] = {"session_id": session_id, "generation": 1}
    return (
        write(
            session_stream(session_id),
            SessionStopRequested(**fact, reason="asked"),
            SessionStopped(**fact),
        ),
        write(container_stream(f"c-{session_id}"), ContainerRemoved(**fact, container=f"c-{session_id}")),
        write(ADMISSION, AdmissionReleased(**fact)),
    )


def lives(name: str, sessions: int, exchanges: int = 90) -> Iterator[tuple[StreamWrite, ...]]:
    """Units of a gateway's run: ten events of a life for each session and ``exchanges`` requests, each unit in turn."""
    instance = f"gw-{name}"
    begun = GatewayStarted(instance=instance, release="0.2.0", runtime="docker", python="3.11.7", server="hypercorn")
    yield (write(gateway_stream(instance), begun),)
    for number in range(sessions):
        session_id = f"{name}-{number}"
        yield opened(session_id)
        yield started(session_id)
        yield used(session_id, exchanges)
        yield ended(session_id)
