"""What an operator can set about containers; a field's name in upper case is its environment variable.

Reading a whole environment, with its unknown keys, is left to ``gateway/settings.py``; ``from_environment`` below is
for this room's own commands and tests.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from docker.errors import BadDockerSettings
from docker.host_dirs import root_problem

_SIZE = re.compile(r"([0-9]{1,20})([kmgt]?)b?", re.IGNORECASE | re.ASCII)
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MOST_BYTES = (1 << 63) - 1  # the daemon counts in 64 bits with a sign
# Below this the daemon refuses to create a container (moby, linuxMinMemory).
_LEAST_MEMORY = 6 << 20
_MOST_PIDS = 1 << 22  # the kernel's, PID_MAX_LIMIT: above it a container is created and never starts
_MOST_CORES = 8192  # of any Linux machine (x86, NR_CPUS): a quota for more is a slip
_LAST_ID = (1 << 32) - 2  # of a user or group
# Docker gives its own bridges addresses from here first; a gateway that is itself a container publishes on one of them.
_BRIDGES = ipaddress.ip_network("172.16.0.0/12")


def _text(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


def _number(description: str, least: float) -> msgspec.Meta:
    return msgspec.Meta(description=description, ge=least)


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Every field has a default that is safe on a laptop; ``problems`` says what does not fit together."""

    docker_host: Annotated[str, _text("The daemon's address, tcp://HOST:PORT; empty: none is given.")] = ""
    docker_tls_verify: Annotated[bool, _text("Must stay on: the daemon is spoken to over mutual TLS only.")] = True
    docker_cert_path: Annotated[str, _text("Folder of the certificates named by the next three.")] = "./docker/certs"
    docker_ca_cert: Annotated[str, _text("The CA that signed the daemon's certificate; empty: ca.pem.")] = ""
    docker_client_cert: Annotated[str, _text("Our certificate; empty: client-cert.pem, else cert.pem.")] = ""
    docker_client_key: Annotated[str, _text("Our private key; empty: client-key.pem, else key.pem.")] = ""
    docker_tls_port: Annotated[int, msgspec.Meta(description="Port when DOCKER_HOST names none.", ge=1, le=65535)] = (
        2376
    )
    docker_host_ip: Annotated[
        str, _text("The daemon's host when DOCKER_HOST is empty; also names its certificate.")
    ] = ""
    certificate_warning_days: Annotated[int, _number("Days before its end when a certificate is warned of.", 0)] = 30
    docker_connect_timeout: Annotated[float, _number("Seconds to wait for a connection to the daemon.", 0.05)] = 3.0
    docker_call_timeout: Annotated[float, _number("Seconds that one call to the daemon may take.", 0.05)] = 60.0
    use_async_docker: Annotated[
        bool, _text("For scripts (docker.blocking.open_service): false, calls block; the gateway itself never does.")
    ] = True

    container_memory_limit: Annotated[str, _text("Memory of a container, swap included: 4g, 512m, bytes.")] = "4g"
    container_cpu_quota: Annotated[int, _number("Microseconds of CPU time in each CONTAINER_CPU_PERIOD.", 1000)] = (
        100_000
    )
    container_cpu_period: Annotated[
        int, msgspec.Meta(description="Microseconds over which the quota counts.", ge=1000, le=1_000_000)
    ] = 100_000
    container_pids_limit: Annotated[int, _number("Processes and threads in a container.", 8)] = 512
    container_tmp_size: Annotated[str, _text("Size of a container's /tmp, which counts as its memory.")] = "512m"
    container_user: Annotated[
        str, _text("UID:GID that a container runs as; OpenCode's image ends at once with another user.")
    ] = "1000:1000"
    container_log_size: Annotated[str, _text("Size at which a container's log file is turned over.")] = "10m"
    container_log_files: Annotated[int, _number("Log files kept for each container.", 1)] = 3

    host_dir_root: Annotated[
        str, _text("Folder whose folders sessions may have as workspace (host_dir); empty: none may.")
    ] = ""

    publish_address: Annotated[str, _text("Address of the daemon's host on which container ports appear.")] = (
        "127.0.0.1"
    )
    allow_public_publish: Annotated[bool, _text("Allow a PUBLISH_ADDRESS that other machines can reach.")] = False
    host_ip: Annotated[str, _text("Where the gateway reaches published ports; empty: it is found out.")] = ""
    docker_host_gateway: Annotated[
        str, _text("In a container: the daemon's machine, where host.docker.internal has no address.")
    ] = ""
    gateway: Annotated[str, _text("The same, as some platforms call it; what is no address is passed over.")] = ""
    session_network: Annotated[str, _text("Network of the session containers; made when absent.")] = "session-gateway"
    session_bridge: Annotated[
        str, _text("Its interface on the daemon's machine, which the firewall names; empty: named after the network.")
    ] = ""


def from_environment(environment: Mapping[str, str]) -> DockerSettings:
    """The settings that ``environment`` gives, defaults for the rest. Raises BadDockerSettings."""
    given = {
        field: environment[field.upper()] for field in DockerSettings.__struct_fields__ if field.upper() in environment
    }
    try:
        return msgspec.convert(given, DockerSettings, strict=False)
    except msgspec.ValidationError as error:
        raise BadDockerSettings(f"A Docker setting cannot be read: {error}.") from error


def parse_size(text: str) -> int:
    """Bytes in ``4g``, ``512m``, ``64kb`` or ``1048576`` (units of 1024). Raises BadDockerSettings."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadDockerSettings(f"{text[:40]!r} is not a size: write a whole number and a unit, such as 512m or 4g.")
    size = int(match[1]) * _FACTOR[match[2].lower()]
    if size > _MOST_BYTES:
        raise BadDockerSettings(f"{text!r} is more than a daemon can count: no machine has 8 million terabytes.")
    return size


def daemon_url(settings: DockerSettings) -> str:
    """``https://HOST:PORT`` of the daemon; never another scheme. Raises BadDockerSettings.

    An HTTP client may speak plain text on ``tcp://`` though it was given a TLS context (aiodocker does: measured), so
    no other address leaves this function.
    """
    if not settings.docker_tls_verify:
        raise BadDockerSettings("DOCKER_TLS_VERIFY must stay on: the daemon is spoken to over mutual TLS only.")
    address = settings.docker_host or (f"tcp://{settings.docker_host_ip}" if settings.docker_host_ip else "")
    if not address:
        raise BadDockerSettings("DOCKER_HOST is empty: give the daemon's address, such as tcp://127.0.0.1:2376.")
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise BadDockerSettings(f"DOCKER_HOST={address} is no address: {error}.") from error
    if parts.scheme not in ("tcp", "https") or not parts.hostname or parts.path.strip("/"):
        raise BadDockerSettings(f"DOCKER_HOST={address} is not tcp://HOST:PORT; sockets and plain HTTP are refused.")
    try:
        port = parts.port or settings.docker_tls_port
    except ValueError as error:
        raise BadDockerSettings(f"DOCKER_HOST={address} has a port that is no port number.") from error
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}:{port}"


def is_bridge(address: str) -> bool:
    """Whether Docker gives such addresses to bridges of its own: the machine and its containers reach them."""
    try:
        return ipaddress.ip_address(address) in _BRIDGES
    except ValueError:
        return False


def certificate_paths(settings: DockerSettings) -> tuple[Path, Path, Path]:
    """CA, certificate and key. Ours go by our names, or by the docker command's own when only those are there."""
    folder = Path(settings.docker_cert_path)
    certificate, key = folder / "client-cert.pem", folder / "client-key.pem"
    # os.path: a folder that we may not look into is no reason to fail here
    if not any(map(os.path.exists, (certificate, key))) and os.path.exists(folder / "cert.pem"):
        certificate, key = folder / "cert.pem", folder / "key.pem"
    return (
        Path(settings.docker_ca_cert) if settings.docker_ca_cert else folder / "ca.pem",
        Path(settings.docker_client_cert) if settings.docker_client_cert else certificate,
        Path(settings.docker_client_key) if settings.docker_client_key else key,
    )


def problems(settings: DockerSettings) -> list[str]:
    """Every reason why these settings cannot serve, one sentence each; empty when they can.

    Files are not opened here: they may appear later, and ``docker/tls.py`` says what is wrong with them.
    """
    found = list[str]()
    if settings.docker_host or settings.docker_host_ip:
        try:
            daemon_url(settings)
        except BadDockerSettings as error:
            found.append(str(error))
    found += _size_problems(settings) + _number_problems(settings) + _publish_problems(settings)
    if not _may_run_as(settings.container_user):
        found.append(f"CONTAINER_USER={settings.container_user}: give UID:GID in numbers, and not root.")
    if settings.host_dir_root and (problem := root_problem(settings.host_dir_root)):
        found.append(problem)
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", settings.session_network):
        found.append(f"SESSION_NETWORK={settings.session_network!r} is not a name that Docker takes for a network.")
    if settings.session_bridge and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}", settings.session_bridge):
        found.append(f"SESSION_BRIDGE={settings.session_bridge!r} is no interface name: at most 15 letters and digits.")
    return found


def _size_problems(settings: DockerSettings) -> list[str]:
    found = list[str]()
    memory = _size("CONTAINER_MEMORY_LIMIT", settings.container_memory_limit, found)
    tmp = _size("CONTAINER_TMP_SIZE", settings.container_tmp_size, found)
    log = _size("CONTAINER_LOG_SIZE", settings.container_log_size, found)
    if memory is not None and memory < _LEAST_MEMORY:
        found.append(f"CONTAINER_MEMORY_LIMIT={settings.container_memory_limit} is below the 6m that a daemon accepts.")
    elif memory and tmp and tmp > memory:
        found.append(
            f"CONTAINER_TMP_SIZE={settings.container_tmp_size} is more than CONTAINER_MEMORY_LIMIT="
            f"{settings.container_memory_limit}, as which it counts: who fills /tmp would be killed."
        )
    if tmp == 0:  # to the kernel, a tmpfs of size 0 is one without a bound
        found.append("CONTAINER_TMP_SIZE=0 would be no limit: give a size.")
    if log == 0:
        found.append("CONTAINER_LOG_SIZE=0 would be no limit: give a size.")
    return found


def _size(name: str, text: str, found: list[str]) -> int | None:
    try:
        return parse_size(text)
    except BadDockerSettings as error:
        found.append(f"{name}: {error}")
        return None


def _number_problems(settings: DockerSettings) -> list[str]:
    found = []
    cores = settings.container_cpu_quota / settings.container_cpu_period
    if cores > _MOST_CORES:
        found.append(
            f"CONTAINER_CPU_QUOTA={settings.container_cpu_quota} in each CONTAINER_CPU_PERIOD="
            f"{settings.container_cpu_period} is {cores:g} cores: no machine has so many."
        )
    if settings.container_pids_limit > _MOST_PIDS:
        found.append(f"CONTAINER_PIDS_LIMIT={settings.container_pids_limit} is above the kernel's {_MOST_PIDS}.")
    return found


def _may_run_as(user: str) -> bool:
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", user)
    return match is not None and 0 < int(match[1]) <= _LAST_ID and int(match[2]) <= _LAST_ID


def _publish_problems(settings: DockerSettings) -> list[str]:
    try:
        address = ipaddress.ip_address(settings.publish_address)
    except ValueError:
        return [f"PUBLISH_ADDRESS={settings.publish_address} is not an IP address."]
    if address.is_loopback or is_bridge(settings.publish_address) or settings.allow_public_publish:
        return []
    return [
        f"PUBLISH_ADDRESS={settings.publish_address} may be reached by other machines: "
        "use 127.0.0.1, or set ALLOW_PUBLIC_PUBLISH=true when that is meant."
    ]
