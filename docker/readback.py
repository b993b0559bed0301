"""What a daemon made of a session's container, against what was asked: every departure, a clause each. Pure.

A daemon answers a create with "created" also when it left something out: a kernel without an accounting, a default of
its configuration, a proxy before it that rewrites bodies. So what it says of the container, of the session network and
of itself is compared with ``spec``. Field names are the Docker Engine API's; cgroup v1 and v2 differ in none of them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from docker.firewall_rules import BRIDGE_OPTION
from docker.settings import DockerSettings, parse_size
from docker.spec import confined, network_body

Answer = Mapping[str, Any]

# What no session has. The daemon says "nothing" as null, false, 0, "" or an empty list, by field and release.
_NOTHING: Final = (
    *("Binds", "VolumesFrom", "Links", "CapAdd", "GroupAdd"),
    *("Devices", "DeviceRequests", "DeviceCgroupRules", "OomKillDisable", "PublishAllPorts", "AutoRemove"),
    *("PidMode", "UTSMode", "UsernsMode", "CgroupParent", "NanoCpus"),
)
# Of these, what gives power over the host, or over other containers.
_POWERS: Final = ("Binds", "VolumesFrom", "CapAdd", "GroupAdd", "Devices", "DeviceRequests", "DeviceCgroupRules")
_NAMESPACES: Final = ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode")
# Of the paths that a daemon hides by itself, those that tell of the host or change it; "systempaths=unconfined" and
# Privileged empty both lists. Newer daemons hide more.
_MASKED: Final = frozenset({"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"})
_READ_ONLY: Final = frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
_ACCOUNTED: Final = ("MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "PidsLimit")
_EVERY_ADDRESS: Final = frozenset({None, "", "0.0.0.0", "::"})
_NO_NEW_PRIVILEGES: Final = frozenset({"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"})


def departures(
    answer: Answer, settings: DockerSettings, *, labels: Mapping[str, str] = {}, folders: Collection[str] = ()
) -> list[str]:
    """In what an inspected container (``GET /containers/{id}/json``) is not what ``spec`` asks; empty: in nothing.

    ``labels`` are those it must carry at least, ``folders`` the host's folders that it was given. Serves a container
    that was just made and one that runs.
    """
    host = answer.get("HostConfig") or {}
    user = (answer.get("Config") or {}).get("User", "")
    wanted = confined(settings)
    return [
        *_unequal({"User": user}, {"User": settings.container_user}),
        *_unequal(host, {key: value for key, value in wanted.items() if key not in _COMPARED_OTHERWISE}),
        *(clause for key, compare in _COMPARED_OTHERWISE.items() for clause in compare(host.get(key), wanted[key])),
        *(f"{key} is {host[key]!r}, not nothing" for key in _NOTHING if host.get(key)),
        *_uncovered(host),
        *_profile(answer),
        *_published(answer, settings),
        *_networks(answer, settings),
        *_mounted(answer, folders),
        *_unlabelled((answer.get("Config") or {}).get("Labels") or {}, labels),
    ]


def breaches(answer: Answer, settings: DockerSettings) -> list[str]:
    """In what an inspected container does not isolate, a clause each, a subset of what ``departures`` looks at: power
    that no release of ours gave to a session. What a release merely did not take away yet is none, so that an upgrade
    ends no session. But a folder that HOST_DIR_ROOT no longer holds and a port on every address are breaches also
    where the settings allowed them then: whoever changes these stops such sessions first.
    """
    host = answer.get("HostConfig") or {}
    wanted = confined(settings)
    return [
        *_root((answer.get("Config") or {}).get("User", ""), settings.container_user),
        *_unequal(host, {"Privileged": wanted["Privileged"]}),
        *_capabilities(host.get("CapDrop"), wanted["CapDrop"]),
        *_security(host.get("SecurityOpt"), wanted["SecurityOpt"]),
        *(f"{key} is {host[key]!r}, not nothing" for key in _POWERS if host.get(key)),
        *(f"{key} is {host[key]!r}" for key in _NAMESPACES if _shared(host.get(key))),
        *(f"{key} is empty" for key in ("MaskedPaths", "ReadonlyPaths") if not host.get(key)),
        *_profile(answer),
        *_published_elsewhere(answer, settings),
        *_mounted(answer, _folders_below(answer, settings.host_dir_root)),
    ]


def read_back(answer: Answer, settings: DockerSettings) -> dict[str, tuple[str, ...]]:
    """Both, for whoever lists containers: each clause once."""
    grave = breaches(answer, settings)
    folders = _folders_below(answer, settings.host_dir_root)
    rest = [each for each in departures(answer, settings, folders=folders) if each not in grave]
    return {"breaches": tuple(grave), "departures": tuple(rest)}


def network_departures(answer: Answer, settings: DockerSettings) -> list[str]:
    """The same of the session network (``GET /networks/{id}``): somebody may have made one of that name before us."""
    wanted = network_body(settings)
    options, asked = answer.get("Options") or {}, wanted["Options"]
    return [
        *_unequal(answer, {"Name": wanted["Name"], "Driver": wanted["Driver"]}),
        # A network of an older release, whose interface the firewall does not know, is told and used (``networks``).
        *_unequal(options, {key: asked[key] for key in asked if key != BRIDGE_OPTION}),
    ]


def daemon_departures(info: Answer) -> list[str]:
    """What the daemon (``GET /info``) cannot do for any session, or does not. A container's own answer does not tell
    whether system calls are filtered."""
    options = [str(each).split(",") for each in info.get("SecurityOptions") or ()]
    filters = next((each for each in options if "name=seccomp" in each), None)
    missing = [f"{key} is not supported by its kernel" for key in _ACCOUNTED if info.get(key) is False]
    if filters is None:
        missing.append("system calls are not filtered (no seccomp)")
    elif "profile=unconfined" in filters:
        missing.append("system calls are not filtered (seccomp-profile unconfined)")
    return missing


def refusal(clauses: Sequence[str]) -> str:
    """What the operator is told when something departs."""
    return f"The daemon does not hold sessions as they must be held, so none starts: {'; '.join(clauses)}."


def cannot_give(info: Answer, settings: DockerSettings) -> list[str]:
    """Settings that ask for more than the daemon's machine has, a sentence each: such a limit limits nothing."""
    cores, asked = int(info.get("NCPU") or 0), settings.container_cpu_quota / settings.container_cpu_period
    if not cores or asked <= cores:
        return []
    return [
        f"CONTAINER_CPU_QUOTA={settings.container_cpu_quota} in each CONTAINER_CPU_PERIOD="
        f"{settings.container_cpu_period} is {asked:g} cores, and the daemon's machine has {cores}."
    ]


def more_than_there_is(info: Answer, settings: DockerSettings) -> list[str]:
    """The same of memory, which is no reason to refuse: the default is more than a small machine has."""
    there, asked = int(info.get("MemTotal") or 0), parse_size(settings.container_memory_limit)
    if not there or asked <= there:
        return []
    return [
        f"CONTAINER_MEMORY_LIMIT={settings.container_memory_limit} is more than the {there >> 20} MiB of the daemon's "
        "machine: one session can take it all."
    ]


def _unequal(found: Answer, wanted: Answer) -> list[str]:
    return [
        f"{key} is {found.get(key)!r}, not {value!r}"
        for key, value in wanted.items()
        if found.get(key) != value and (found.get(key) or value)  # null and false are one
    ]


def _capabilities(found: Iterable[str] | None, wanted: list[str]) -> list[str]:
    dropped = {each.upper().removeprefix("CAP_") for each in found or ()}
    return [] if dropped.issuperset(wanted) else [f"CapDrop is {sorted(dropped)}, not {wanted}"]


def _security(found: Iterable[str] | None, wanted: list[str]) -> list[str]:
    """A label of the daemon's own choice (SELinux) is no departure; one that is switched off is."""
    options = set(found or ())
    strange = {each for each in options - _NO_NEW_PRIVILEGES if not each.startswith("label") or "disable" in each}
    missing = [] if options & _NO_NEW_PRIVILEGES else [f"SecurityOpt lacks {wanted[0]}"]
    return missing + [f"SecurityOpt has {each}" for each in sorted(strange)]


def _ulimits(found: Iterable[Answer] | None, wanted: list[Answer]) -> list[str]:
    given = list(found or ())  # a daemon may add its own defaults
    return [f"Ulimits lack {each['Name']}={each['Hard']}" for each in wanted if each not in given]


_COMPARED_OTHERWISE: Final[Mapping[str, Callable[[Any, Any], list[str]]]] = {
    "CapDrop": _capabilities,
    "SecurityOpt": _security,
    "Ulimits": _ulimits,
}


def _uncovered(host: Answer) -> list[str]:
    lists = (("MaskedPaths", _MASKED), ("ReadonlyPaths", _READ_ONLY))
    return [
        f"{key} lacks {', '.join(sorted(open_))}" for key, paths in lists if (open_ := paths - set(host.get(key) or ()))
    ]


def _profile(answer: Answer) -> list[str]:
    """AppArmor's is known from the start on, where the host has it."""
    profile = answer.get("AppArmorProfile") or ""
    return [f"AppArmorProfile is {profile}"] if profile == "unconfined" else []


def _published(answer: Answer, settings: DockerSettings) -> list[str]:
    """Asked for, and, once it runs, done."""
    asked = (answer.get("HostConfig") or {}).get("PortBindings") or {}
    done = (answer.get("NetworkSettings") or {}).get("Ports") or {}
    hosts = [
        (port, each.get("HostIp")) for ports in (asked, done) for port, all_ in ports.items() for each in all_ or ()
    ]
    return [
        f"port {port} is published on {host or 'every address'}, not on {settings.publish_address}"
        for port, host in dict.fromkeys(hosts)
        if host != settings.publish_address
    ]


def _published_elsewhere(answer: Answer, settings: DockerSettings) -> list[str]:
    """On every address, or on another than its own creation asked for. One of a former PUBLISH_ADDRESS is neither."""
    asked = (answer.get("HostConfig") or {}).get("PortBindings") or {}
    done = (answer.get("NetworkSettings") or {}).get("Ports") or {}
    wanted = {each.get("HostIp") for bindings in asked.values() for each in bindings or ()}
    hosts = wanted | {each.get("HostIp") for bindings in done.values() for each in bindings or ()}
    strange = {host for host in hosts if host not in wanted or host in _EVERY_ADDRESS} - {settings.publish_address}
    return [f"it is published on {host or 'every address'}" for host in sorted(strange, key=str)]


def _root(user: str, wanted: str) -> list[str]:
    """No name at all is the image's own user, which is root unless it says otherwise."""
    uid = user.partition(":")[0]
    root = uid in ("", "root") or (uid.isdigit() and int(uid) == 0)
    return [f"User is {user!r}"] if root and user != wanted else []


def _shared(mode: str | None) -> bool:
    return mode == "host" or (mode or "").startswith("container:")


def _folders_below(answer: Answer, root: str) -> set[str]:
    """Those of its mounts that HOST_DIR_ROOT holds: whose they are is the gateway's matter."""
    sources = {str(each.get("Source")) for each in answer.get("Mounts") or ()}
    return {each for each in sources if root and PurePosixPath(each).is_relative_to(root) and ".." not in each}


def _networks(answer: Answer, settings: DockerSettings) -> list[str]:
    joined = set((answer.get("NetworkSettings") or {}).get("Networks") or {})
    return [f"it is in the network {each} too" for each in sorted(joined - {settings.session_network})]


def _mounted(answer: Answer, folders: Collection[str]) -> list[str]:
    """Whatever is not a volume is a piece of the host: the daemon's own socket, in the worst case."""
    return [
        f"{each.get('Source')} of the host is mounted at {each.get('Destination')}"
        for each in answer.get("Mounts") or ()
        if each.get("Type") not in ("volume", "tmpfs") and each.get("Source") not in folders
    ]


def _unlabelled(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    return [f"the label {key} is missing" for key, value in wanted.items() if found.get(key) != value]
