"""What becomes of a daemon.json: the shipped keys go in, others stay, contradictions are told. Pure, standard library.

Which keys are shipped says ``daemon.json`` beside this file.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

Config = dict[str, Any]

PORT: Final = 2376
# Only sensible where nobody has chosen a log driver: the options of one are refused by another.
_TOGETHER: Final = ("log-driver", "log-opts")
# What the shipped file does not name, and what no session could run under.
_IMPOSSIBLE: Final[Mapping[str, Any]] = {"iptables": False, "ip-forward": False, "ip-masq": False}


class Merged(NamedTuple):
    """The file to be, and a clause for each key in it that said something else before."""

    config: Config
    contradictions: tuple[str, ...]


def merge(existing: Config, shipped: Config, *, listen: str, sockets: Sequence[str] | None) -> Merged:
    """``listen``: HOST:PORT, empty for what the file has. ``sockets``: the local ones wanted; None keeps the file's."""
    config, found = dict(existing), list[str]()
    for key, value in shipped.items():
        if key == "hosts" or (key in _TOGETHER and any(each in existing for each in _TOGETHER)):
            continue
        if key in existing and existing[key] != value:
            found.append(f"{key} is {json.dumps(existing[key])} and would become {json.dumps(value)}")
        config[key] = value
    for key, value in _IMPOSSIBLE.items():
        if key in config and config[key] == value:
            found.append(f"{key} is {json.dumps(value)}, with which no published port is reached, and would be removed")
            del config[key]
    config["hosts"], lost = _hosts(existing.get("hosts") or [], shipped["hosts"], listen, sockets)
    return Merged(config, (*found, *(f"hosts has {each}, which would be removed" for each in lost)))


def _hosts(
    present: Sequence[str], shipped: Sequence[str], listen: str, sockets: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The hosts to be, local ones first, and those that were there and are not any more."""
    own_tcp = [each for each in present if each.startswith("tcp://")]
    own_sockets = [each for each in present if not each.startswith("tcp://")]
    tcp = [f"tcp://{listen}"] if listen else own_tcp or list(shipped)
    local = list(sockets) if sockets is not None and not (sockets and own_sockets) else own_sockets
    hosts = [*local, *tcp]
    return hosts, [each for each in present if each not in hosts]


def listening(text: str) -> str:
    """``ADDRESS[:PORT]`` with its port. Raises ValueError with a sentence."""
    host, separator, port = text.rpartition(":")
    if (text.startswith("[") and text.endswith("]")) or not separator:
        host, port = text, str(PORT)
    if not host or (":" in host and not host.startswith("[")) or not (port.isascii() and port.isdigit()):
        raise ValueError(f"{text} is not ADDRESS[:PORT], such as 10.0.0.5, 10.0.0.5:2376 or [fd00::5]:2376.")
    if not 0 < int(port) <= 65535:
        raise ValueError(f"{text} has a port that is none: 1 to 65535.")
    return f"{host}:{port}"


def where(config: Config) -> tuple[str, int]:
    """Host and port that the daemon listens on with TLS, for a client on the same machine."""
    address = next(each for each in config["hosts"] if each.startswith("tcp://")).removeprefix("tcp://")
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host), int(port)


def everywhere(config: Config) -> bool:
    """Whether it listens on every address of the machine: then no one name can be checked."""
    hosts = [each.removeprefix("tcp://").rpartition(":")[0] for each in config["hosts"] if each.startswith("tcp://")]
    return any(each in ("0.0.0.0", "", "[::]") for each in hosts)
