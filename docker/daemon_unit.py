"""What becomes of systemd's unit of the daemon. Pure, standard library.

dockerd refuses to start when a setting stands both on its command line and in daemon.json, and every distribution's
unit has ``-H fd://`` there. A drop-in with a command line of its own says the rest of it again.
"""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

_HOST: Final = ("-H", "--host")
# daemon.json calls it in the plural, or by another name than the command line.
_FLAGS: Final = {"hosts": _HOST, "log-opts": ("--log-opt",)}
_SWITCHES: Final = frozenset({"tls", "tlsverify", "live-restore", "userland-proxy", "no-new-privileges", "icc"})


class Command(NamedTuple):
    """A command line without what daemon.json says."""

    line: str
    hosts: tuple[str, ...]  # of -H, which the file has to name now
    taken: tuple[str, ...]  # other flags that were left out


def exec_start(texts: Sequence[str]) -> str:
    """The command line that counts: of the unit and its drop-ins, in the order in which systemd reads them.

    Empty when there is none.
    """
    found = ""
    for text in texts:
        section = ""
        for line in text.replace("\\\n", " ").splitlines():
            stripped = line.strip()
            if stripped.startswith("["):
                section = stripped
            name, _, value = stripped.partition("=")
            if section == "[Service]" and name.strip() == "ExecStart":
                found = value.strip()  # the empty one resets
    return found


def without(line: str, keys: Collection[str]) -> Command:
    """``line`` without the flags that say what a daemon.json with ``keys`` says."""
    flags = {flag: key for key in keys for flag in _FLAGS.get(key, (f"--{key}",))}
    kept, hosts, taken = list[str](), list[str](), list[str]()
    words = iter(line.split())
    for word in words:
        flag, equals, value = word.partition("=")
        if word.startswith("-H") and not word.startswith("--") and len(flag) > 2:
            flag, equals, value = "-H", "=", word[2:].removeprefix("=")
        if flag not in flags:
            kept.append(word)
            continue
        if not equals and flags[flag] not in _SWITCHES:
            value = next(words, "")
        if flag in _HOST:
            hosts.append(value.strip("'\""))
        else:
            taken.append(f"{flag}={value}" if value else flag)
    return Command(" ".join(kept), tuple(hosts), tuple(taken))


def drop_in(line: str) -> str:
    """The drop-in that makes ``line`` the command; the empty setting takes the former one away."""
    return (
        "# daemon.json names the hosts: dockerd refuses to start when its command line names some too.\n"
        f"[Service]\nExecStart=\nExecStart={line}\n"
    )
