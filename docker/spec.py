"""What a session's container looks like: settings in, the daemon's create body out. Pure.

Field names are the Docker Engine API's (``POST /containers/create``, ``POST /networks/create``). Every limit and every
hardening measure of a session stands here and nowhere else; ``readback`` compares what a daemon made with it.
"""

from collections.abc import Mapping
from typing import Any, Final

from docker.firewall_rules import BRIDGE_OPTION, bridge_name
from docker.service import HostDir, Mount
from docker.settings import DockerSettings, parse_size

Body = dict[str, Any]

# /dev/shm, in bytes. Its pages count as the container's memory; the daemon's default can be set to any size.
SHM: Final = 64 << 20
# When the whole machine is short of memory, a session goes before the daemon, the gateway and the log.
OOM_SCORE: Final = 500


def container_body(
    settings: DockerSettings,
    *,
    image: str,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    volumes: tuple[Mount, ...],
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
        "HostConfig": confined(settings) | _surroundings(settings, volumes, port),
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
        "Options": {
            "com.docker.network.bridge.enable_icc": "false",
            BRIDGE_OPTION: settings.session_bridge or bridge_name(settings.session_network),
        },
    }


def confined(settings: DockerSettings) -> Body:
    """What of the ``HostConfig`` bounds a session, the same for every one."""
    return _limits(settings) | _hardening(settings) | _isolation(settings)


def _limits(settings: DockerSettings) -> Body:
    memory = parse_size(settings.container_memory_limit)
    return {
        "Memory": memory,
        "MemorySwap": memory,  # memory and swap together: no swap
        "CpuQuota": settings.container_cpu_quota,
        "CpuPeriod": settings.container_cpu_period,
        "PidsLimit": settings.container_pids_limit,
        "ShmSize": SHM,
        "OomScoreAdj": OOM_SCORE,
        # No core files: they fill the workspace, or the host where its core_pattern is a program. Nothing is raised
        # above the daemon's own limits, which not every daemon may do (then no container starts: tried with nofile).
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
        "LogConfig": {
            "Type": "json-file",
            "Config": {  # in bytes: the daemon reads 10m as 10,000,000
                "max-size": str(parse_size(settings.container_log_size)),
                "max-file": str(settings.container_log_files),
            },
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
        "Privileged": False,
    }


def _isolation(settings: DockerSettings) -> Body:
    return {
        "IpcMode": "private",
        # Where cgroup v1 is, the default shows a container its path on the host.
        "CgroupnsMode": "private",
        "NetworkMode": settings.session_network,
        # As PID 1 OpenCode ignores SIGTERM, and a stop takes its full time-out; under an init it takes 0.3 s.
        "Init": True,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }


def _surroundings(settings: DockerSettings, volumes: tuple[Mount, ...], port: int) -> Body:
    return {
        "PortBindings": {f"{port}/tcp": [{"HostIp": settings.publish_address, "HostPort": ""}]},
        "Mounts": [_mount(volume) for volume in volumes],
    }


def _mount(volume: Mount) -> Body:
    if isinstance(volume, HostDir):
        return _bind(volume)
    # With NoCopy off, a fresh volume takes over the image's folder at its target, owner included: uid 1000 may write.
    return {
        "Type": "volume",
        "Source": volume.name,
        "Target": volume.target,
        "VolumeOptions": {"NoCopy": False, "Labels": dict(volume.labels)},
    }


def _bind(folder: HostDir) -> Body:
    # A mount, not one of Binds: it is refused when the source is not there, where Binds would make it, as root. What
    # else is mounted beneath the folder stays out. The API cannot say nosuid or nodev of a folder: that a setuid file
    # gives nothing, and a device opens nothing, is due to no-new-privileges and to the device list.
    return {
        "Type": "bind",
        "Source": folder.source,
        "Target": folder.target,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
    }
