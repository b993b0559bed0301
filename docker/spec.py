"""What a session's container looks like: settings in, the daemon's create body out. Pure.

Field names are the Docker Engine API's (``POST /containers/create``, ``POST /networks/create``). Every limit and every
hardening measure of a session stands here and nowhere else.
"""

from collections.abc import Mapping
from typing import Any

from docker.service import Volume
from docker.settings import DockerSettings, parse_size

Body = dict[str, Any]


def container_body(
    settings: DockerSettings,
    *,
    image: str,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    volumes: tuple[Volume, ...],
    port: int,
    command: tuple[str, ...] | None = None,
) -> Body:
    """The body of ``POST /containers/create``; the name goes into the query. Raises BadDockerSettings."""
    body: Body = {
        "Image": image,
        "Env": [f"{key}={value}" for key, value in sorted(environment.items())],
        "Labels": dict(labels),
        "User": settings.container_user,
        "ExposedPorts": {f"{port}/tcp": {}},
        "HostConfig": _limits(settings) | _hardening(settings) | _surroundings(settings, volumes, port),
    }
    if command is not None:
        body["Cmd"] = list(command)
    return body


def network_body(settings: DockerSettings) -> Body:
    """The body of ``POST /networks/create``: a bridge whose members cannot talk to each other."""
    return {
        "Name": settings.session_network,
        "Driver": "bridge",
        "CheckDuplicate": True,
        "Options": {"com.docker.network.bridge.enable_icc": "false"},
    }


def _limits(settings: DockerSettings) -> Body:
    memory = parse_size(settings.container_memory_limit)
    return {
        "Memory": memory,
        "MemorySwap": memory,  # memory and swap together: no swap
        "CpuQuota": settings.container_cpu_quota,
        "CpuPeriod": settings.container_cpu_period,
        "PidsLimit": settings.container_pids_limit,
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": settings.container_log_size, "max-file": str(settings.container_log_files)},
        },
    }


def _hardening(settings: DockerSettings) -> Body:
    # /tmp must be exec: OpenCode unpacks its terminal's native library there and loads it.
    tmp = f"rw,exec,nosuid,nodev,size={parse_size(settings.container_tmp_size)},mode=1777"
    return {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": tmp},
        "IpcMode": "private",
        "Privileged": False,
    }


def _surroundings(settings: DockerSettings, volumes: tuple[Volume, ...], port: int) -> Body:
    return {
        # As PID 1 OpenCode ignores SIGTERM, and a stop takes its full time-out; under an init it takes 0.3 s.
        "Init": True,
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": settings.session_network,
        "PortBindings": {f"{port}/tcp": [{"HostIp": settings.publish_address, "HostPort": ""}]},
        "Mounts": [_mount(volume) for volume in volumes],
    }


def _mount(volume: Volume) -> Body:
    # With NoCopy off, a fresh volume takes over the image's folder at its target, owner included: uid 1000 may write.
    return {
        "Type": "volume",
        "Source": volume.name,
        "Target": volume.target,
        "VolumeOptions": {"NoCopy": False, "Labels": dict(volume.labels)},
    }
