"""Writes ``docker/.env.example``: every setting by its group, and what only the compose file reads. ``make docs``.

Everything is commented out, with its default; passwords are empty. A test compares the file with the settings and with
the compose file.
"""

import re
import textwrap
from pathlib import Path
from typing import Final

from tools.settings_page import Setting, settings_of, structs

COMPOSE: Final = Path(__file__).resolve().parent.parent / "docker" / "compose.yml"
_HEAD: Final = """\
# Settings of the gateway in containers: copy to docker/.env, and take the # off what differs from its default. Compose
# reads the copy, for docker/compose.yml and as the gateway's environment; the gateway itself reads no file. What
# compose.yml sets for the gateway counts before this file: DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_ADMIN_URL,
# DOCKER_HOST, DOCKER_CERT_PATH, GATEWAY_BIND, GATEWAY_DATA_DIR, SESSION_RUNTIME.
# Generated (make docs); docs/settings.md tells more.
"""
# What docker/compose.yml reads beside settings.
_OF_COMPOSE: Final = {
    "RELEASE_IMAGE": "the gateway's image; make image-gateway builds it",
    "MEMORY_LIMIT": "memory of the gateway's container",
    "LISTEN": "address of the daemon's machine at which clients reach the gateway",
    "DAEMON_URL": "the daemon as the gateway's container reaches it; its certificate must name that host",
    "CERTS_FOLDER": "folder of ca.pem, client-cert.pem and client-key.pem, which uid 10001 must be able to read",
    "FRONT_SUBNET": "the gateway's network; PUBLISH_ADDRESS is its first address",
    "POSTGRES_IMAGE": "a Postgres image that takes the variables of the official one",
    "POSTGRES_PASSWORD": "of the role that owns the database: letters and digits, as openssl rand -hex 24 makes",
}
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::-([^}]*))?")


def page() -> str:
    """The whole of ``docker/.env.example``."""
    defaults = {name: default for name, default in _VARIABLE.findall(COMPOSE.read_text())}
    own = [_entry(name, defaults.pop(name), meaning) for name, meaning in _OF_COMPOSE.items()]
    parts = [_HEAD, _heading("Compose", "Read by docker/compose.yml alone."), *own]
    for struct in structs():
        settings = settings_of(struct)
        if settings:
            first = (struct.__doc__ or "").strip().partition("\n")[0].replace("``", "")
            parts.append(_heading(struct.__name__.removesuffix("Settings") or "Gateway", first))
            parts += [_entry(setting.name, _value(setting, defaults), setting.meaning) for setting in settings]
    return "\n".join(parts)


def _heading(name: str, what: str) -> str:
    return f"\n# == {name}: {what}\n"


def _value(setting: Setting, in_compose: dict[str, str]) -> str:
    default = "" if setting.default == "empty" else setting.default.strip("`")
    return in_compose.get(setting.name) or default


def _entry(name: str, value: str, meaning: str) -> str:
    told = "\n".join(textwrap.wrap(meaning, 116, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False))
    return f"{told}\n#{name}={value}\n"


if __name__ == "__main__":
    print(page(), end="")
