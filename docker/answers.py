"""The daemon's answers, as far as we read them, turned into our own types. Pure.

Field names are the Docker Engine API's (``GET /containers/{id}/json``, ``GET /events``). What we do not read is
ignored, so a newer daemon that says more does not break us.
"""

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from docker.service import Address, ContainerEvent, ContainerInfo, ContainerState, VolumeInfo

_KILLED = 137  # 128 + SIGKILL: the main process, or the agent as the init under it tells its end
_ENDED = (ContainerState.EXITED, ContainerState.DEAD)
# What the daemon mixes into an event's attributes beside the container's labels.
_NOT_LABELS = {"image", "name", "exitCode", "execDuration", "signal"}


class _State(msgspec.Struct, rename="pascal"):
    status: ContainerState
    exit_code: int
    started_at: str
    finished_at: str
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)


class _Config(msgspec.Struct, rename="pascal"):
    image: str
    labels: dict[str, str] | None = None


class _Binding(msgspec.Struct, rename="pascal"):
    host_ip: str
    host_port: str


class _Network(msgspec.Struct, rename="pascal"):
    ports: dict[str, list[_Binding] | None] | None = None


class _Container(msgspec.Struct, rename="pascal"):
    id: str
    name: str
    created: str
    state: _State
    config: _Config
    image: str  # the image's id, where config.image is the name it was asked for by
    network_settings: _Network


class _Volume(msgspec.Struct, rename="pascal"):
    name: str
    labels: dict[str, str] | None = None


class _Volumes(msgspec.Struct, rename="pascal"):
    volumes: list[_Volume] | None = None


class _Actor(msgspec.Struct):
    id: str = msgspec.field(name="ID")
    attributes: dict[str, str] = msgspec.field(name="Attributes", default_factory=dict)


class _Event(msgspec.Struct):
    action: str = msgspec.field(name="Action")
    actor: _Actor = msgspec.field(name="Actor")
    time_nano: int = msgspec.field(name="timeNano")


class _Information(msgspec.Struct, rename="pascal"):
    system_time: str


def container_info(answer: Mapping[str, Any], *, host: str, here: str = "") -> ContainerInfo:
    """Our view of one inspected container. ``host`` is where its port is reached, empty: where it is published.

    ``here``: what the loopback and every address of the daemon's machine are called from where we are.
    """
    said = msgspec.convert(answer, _Container)
    ended = said.state.status in _ENDED
    return ContainerInfo(
        id=said.id,
        name=said.name.removeprefix("/"),
        image=said.config.image,
        state=said.state.status,
        labels=said.config.labels or {},
        address=_address(said.network_settings, host, here) if said.state.status is ContainerState.RUNNING else None,
        created_at=_time(said.created) or datetime.fromtimestamp(0, UTC),
        started_at=_time(said.state.started_at),
        finished_at=_time(said.state.finished_at) if ended else None,
        exit_code=said.state.exit_code if ended else None,
        # The daemon's mark stays when only a child was killed: then the end that comes later is another one.
        oom_killed=said.state.oom_killed and (not ended or said.state.exit_code == _KILLED),
    )


def image_of(answer: Mapping[str, Any]) -> str:
    """The id of the image that an inspected container was made of."""
    return msgspec.convert(answer, _Container).image


def volumes_of(answer: Mapping[str, Any]) -> list[VolumeInfo]:
    """Our view of ``GET /volumes``."""
    return [VolumeInfo(said.name, said.labels or {}) for said in msgspec.convert(answer, _Volumes).volumes or ()]


def container_event(answer: Mapping[str, Any]) -> ContainerEvent | None:
    """Our view of one line of the daemon's event stream; None when it is neither a death nor an out-of-memory kill."""
    said = msgspec.convert(answer, _Event)
    if said.action not in ("die", "oom"):
        return None
    attributes = said.actor.attributes
    code = attributes.get("exitCode")
    return ContainerEvent(
        container_id=said.actor.id,
        name=attributes.get("name", ""),
        kind=said.action,
        at_ns=said.time_nano,
        exit_code=int(code) if code is not None else None,
        labels={key: value for key, value in attributes.items() if key not in _NOT_LABELS},
    )


def clock_ns(answer: Mapping[str, Any]) -> int:
    """The daemon's clock (``GET /info``) in nanoseconds since 1970, to the microsecond."""
    moment = datetime.fromisoformat(msgspec.convert(answer, _Information).system_time)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def _address(network: _Network, host: str, here: str) -> Address | None:
    for bindings in (network.ports or {}).values():
        for binding in bindings or ():
            published = "127.0.0.1" if binding.host_ip in ("", "0.0.0.0", "::") else binding.host_ip
            if here and ipaddress.ip_address(published).is_loopback:
                published = here
            return Address(host=host or published, port=int(binding.host_port))
    return None


def _time(text: str) -> datetime | None:
    """The daemon's RFC 3339 time with nanoseconds; its year 1 means "never"."""
    moment = datetime.fromisoformat(text)
    return None if moment.year == 1 else moment
