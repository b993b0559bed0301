"""Settings: composes the rooms' structs and reads the environment once, strictly.

Every problem is reported at once, with the near name for what was misspelt. An unknown ``GATEWAY_*`` refuses the start,
and so does a name that is one of ours but for two letters, or for a word more or less (``CONTAINER_MEMORY``,
``DB_PASSWORD_FILE``). No other prefix is ours alone: desktops set ``SESSION_MANAGER``, Docker ``DOCKER_BUILDKIT``,
Podman ``CONTAINER_HOST``, and clusters what a service happens to be called. So all else passes.
"""

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec
from msgspec import Meta

from docker import settings as docker_settings
from docker.settings import DockerSettings
from events import settings as database_settings
from events.settings import DatabaseSettings
from events.spool import SpoolSettings
from gateway import logs
from gateway.logs import LogSettings
from gateway.proxy.headers import networks
from gateway.proxy.settings import AccessSettings, ProxySettings
from gateway.server_settings import ServerSettings
from gateway.sessions.settings import ModelSettings, SessionSettings
from gateway.telemetry_settings import TelemetrySettings
from gateway.wording import misfit
from projections.settings import ProjectionSettings


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to no single room."""

    gateway_data_dir: Annotated[str, Meta(description="directory for keys, local sessions, the embedded Postgres")] = (
        "./var"
    )
    gateway_trusted_proxies: Annotated[
        str, Meta(description="comma-separated addresses or networks whose Forwarded and traceparent are believed")
    ] = ""
    gateway_max_body_bytes: Annotated[int, Meta(ge=1, description="largest body of a control request, bytes")] = 65_536
    gateway_allowed_origins: Annotated[
        str, Meta(description="comma-separated origins whose pages may open websockets, such as https://chat.example")
    ] = ""
    stale_limit: Annotated[
        float,
        Meta(
            gt=0, description="seconds for which a process that cannot see the log, hence no revocation, trusts tokens"
        ),
    ] = 900.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, by room."""

    gateway: GatewaySettings = GatewaySettings()
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    spool: SpoolSettings = SpoolSettings()
    projections: ProjectionSettings = ProjectionSettings()
    sessions: SessionSettings = SessionSettings()
    model: ModelSettings = ModelSettings()
    docker: DockerSettings = DockerSettings()
    proxy: ProxySettings = ProxySettings()
    access: AccessSettings = AccessSettings()
    logs: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @property
    def data_dir(self) -> Path:
        return Path(self.gateway.gateway_data_dir).absolute()


class BadSettings(Exception):
    """One or more settings cannot be used; ``problems`` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


SECRET_CHARACTERS: Final = 32
SECRET: Final = DatabaseSettings.SECRET | SessionSettings.SECRET | ModelSettings.SECRET
_OWN: Final = "GATEWAY_"
_CLIENTS: Final = frozenset({"GATEWAY_KEY"})  # the command line's, which may run in the same environment
# Other programs' names that are only a letter or a word from ours, and those of generate-certs.sh.
_COMMON: Final = frozenset({"LOGLEVEL", "DOCKER_TLS", "DOCKER_HOST_NAME"})
# What Kubernetes sets in every container beside a service named "gateway".
_KUBERNETES: Final = re.compile(
    r"GATEWAY_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)=.*|PORT(?:_\d+_\w+)?=(?:tcp|udp|sctp)://.*|PORT_\d+_\w+_(?:PROTO|PORT|ADDR)=.*)"
)
_ORIGIN: Final = re.compile(r"https?://[^/?#@\s]+")
_FOREIGN: Final = "OTEL_"  # OpenTelemetry has many of its own, which its SDK reads by itself
_SLIPS: Final = 2  # letters; LOG_LVL is two from LOG_LEVEL, CONTAINER_NAME three from CONTAINER_USER


def rooms() -> dict[str, type[msgspec.Struct]]:
    """Field of ``Settings`` -> the room's struct."""
    hints = get_type_hints(Settings)
    return {name: hints[name] for name in Settings.__struct_fields__}


def names() -> dict[str, str]:
    """Environment variable -> the field of ``Settings`` that it belongs to."""
    return {field.upper(): room for room, struct in rooms().items() for field in struct.__struct_fields__}


def load(environment: Mapping[str, str]) -> Settings:
    """The settings in ``environment``. Raises BadSettings with every problem at once."""
    known = names()
    problems = _unknown(environment, known)
    composed: dict[str, Any] = {}
    for room, struct in rooms().items():
        given = {
            name.lower(): environment[name] for name, owner in known.items() if owner == room and name in environment
        }
        value, found = _room(struct, given)
        problems += found
        composed[room] = value
    settings = Settings(**composed)
    problems += docker_settings.problems(settings.docker) + database_settings.problems(settings.database)
    problems += logs.problems(settings.logs) + _contradictions(settings)
    if problems:
        raise BadSettings(problems)
    return settings


def _contradictions(settings: Settings) -> list[str]:
    problems = [
        f"{name.upper()} needs {SECRET_CHARACTERS} characters or more, or auto"
        for name in ("session_token_secret", "sealing_secret")
        if (given := getattr(settings.sessions, name)) != "auto" and len(given) < SECRET_CHARACTERS
    ]
    try:
        networks(settings.gateway.gateway_trusted_proxies)
    except ValueError as error:
        problems.append(f"GATEWAY_TRUSTED_PROXIES: {error}")
    problems += [
        f"GATEWAY_ALLOWED_ORIGINS: {origin!r} is not an origin such as https://chat.example"
        for origin in map(str.strip, settings.gateway.gateway_allowed_origins.split(","))
        if origin and not _ORIGIN.fullmatch(origin)
    ]
    if settings.database.db_min_connections > settings.database.db_max_connections:
        problems.append("DB_MIN_CONNECTIONS is more than DB_MAX_CONNECTIONS")
    if settings.access.access_durability == "before" and settings.access.access_events == "summary":
        problems.append("ACCESS_DURABILITY=before needs ACCESS_EVENTS=each: a summary is written when all is over")
    return problems


def _room(struct: type[msgspec.Struct], given: dict[str, str]) -> tuple[msgspec.Struct, list[str]]:
    """Each field alone, so that every problem is told and not only the first; what is wrong is left at its default,
    so that the rest can still be held against each other."""
    problems, usable = [], {}
    for field, text in given.items():
        try:
            value = getattr(msgspec.convert({field: text}, struct, strict=False), field)
            if isinstance(value, float) and not math.isfinite(value):
                raise msgspec.ValidationError("expected a finite number")
            usable[field] = text
        except msgspec.ValidationError as error:
            shown = "its value" if field in SECRET else repr(text)
            problems.append(f"{field.upper()}: {shown} cannot be used: {misfit(error)}")
    return msgspec.convert(usable, struct, strict=False), problems


def _unknown(environment: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    problems = []
    for name in sorted(set(environment) - set(known) - _CLIENTS - _COMMON):
        if _KUBERNETES.fullmatch(f"{name}={environment[name]}"):
            continue
        if near := "" if name.startswith(_FOREIGN) else _near(name, known):
            problems.append(f"{name} is not a setting: did you mean {near}?")
        elif name.startswith(_OWN):
            problems.append(f"{name} is not a setting: docs/settings.md lists them all")
    return problems


def _near(name: str, known: Mapping[str, str]) -> str:
    """The setting that was meant, as far as that can be told; empty when it cannot."""
    for near in difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        if _edits(name, near) <= _SLIPS or (near.startswith(_OWN) and name.startswith(_OWN)):
            return near
    return " or ".join(sorted(setting for setting in known if _is_a_word_off(name, setting)))


def _is_a_word_off(name: str, setting: str) -> bool:
    """One has a word more. What they share begins alike, and is two words at least: ``MODEL`` is anybody's."""
    less, more = sorted((name.split("_"), setting.split("_")), key=len)
    if len(less) < 2 or len(more) != len(less) + 1 or less[0] != more[0]:
        return False
    return any(more[:place] + more[place + 1 :] == less for place in range(1, len(more)))


def _edits(one: str, other: str) -> int:
    """Letters to add, drop or change."""
    steps = difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return sum(max(end - start, to - at) for kind, start, end, at, to in steps if kind != "equal")
