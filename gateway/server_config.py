"""``hypercorn.toml``, read strictly. hypercorn itself takes any key and any value in silence, method names too.

Refused are unknown keys (with the near name), values of another type, and keys that do nothing or harm in a server
that runs inside our process and whose end is our drain.
"""

import difflib
import tomllib
import typing
from pathlib import Path
from typing import Any, Final

import msgspec
from hypercorn.config import Config

SHIPPED: Final = Path(__file__).resolve().parent.parent / "hypercorn.toml"

_NOT_HERE: Final = "hypercorn does not heed it when it runs inside another process"
_LOGS: Final = "LOG_* settings say where log lines go and how they look"
_SOCKETS: Final = "GATEWAY_BIND is the only address that is listened on"
REFUSED: Final[dict[str, str]] = {
    **dict.fromkeys(("bind", "insecure_bind", "quic_bind"), _SOCKETS),
    **dict.fromkeys(("accesslog", "errorlog", "access_log_format", "loglevel", "logconfig", "logconfig_dict"), _LOGS),
    **dict.fromkeys(
        ("worker_class", "use_reloader", "daemon", "debug", "pid_path", "user", "group", "umask"), _NOT_HERE
    ),
    "workers": _NOT_HERE,
    "read_timeout": "it cuts event streams that are quiet",
    **dict.fromkeys(("max_requests", "max_requests_jitter"), "it ends the server past our drain"),
    "cert_reqs": "use verify_mode",
}
# Defaults whose type says less than hypercorn's reading of them.
_NUMBERS: Final = {"verify_mode": int | None, "verify_flags": int | None}


class BadServerConfig(Exception):
    """``hypercorn.toml`` cannot be used; ``problems`` has one sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read(path: Path) -> Config:
    """The configuration in ``path``. Raises BadServerConfig with every problem at once."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadServerConfig([f"{path} cannot be read: {error}"]) from error
    types = _types()
    problems = [f"{path.name}: {problem}" for name, value in told.items() if (problem := _problem(name, value, types))]
    if problems:
        raise BadServerConfig(problems)
    return Config.from_mapping(told)


def _problem(name: str, value: Any, types: dict[str, Any]) -> str | None:
    if name in REFUSED:
        return f"{name} is refused: {REFUSED[name]}"
    if name not in types:
        near = difflib.get_close_matches(name, types, n=1)
        return f"{name} is not a key of hypercorn" + (f": did you mean {near[0]}?" if near else "")
    try:
        msgspec.convert(value, types[name], strict=True)
    except msgspec.ValidationError as error:
        return f"{name}: {value!r} cannot be used: {str(error).lower().replace('`', '')}"
    return None


def _types() -> dict[str, Any]:
    """Key -> type of its value. A key is what can be set: no method, no property without a setter."""
    hints = typing.get_type_hints(Config)
    found: dict[str, Any] = {}
    for name in dir(Config):
        declared = getattr(Config, name)
        settable = not isinstance(declared, property) or (declared.fset is not None and declared.fget is not None)
        if not name.startswith("_") and not callable(declared) and settable:
            found[name] = _NUMBERS.get(name) or hints.get(name) or _type_of(declared)
    return found


def _type_of(default: Any) -> Any:
    if isinstance(default, property):
        return str  # root_path; the others are addresses, which are refused
    return list[str] if isinstance(default, list) else type(default)
