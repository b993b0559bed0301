"""Settings, their page, the example of an environment and the compose file say the same."""

import re

import pytest

from gateway.settings import SECRET, load, names
from tests.docker.compose_file import FILE, read, variables
from tools import env_example

EXAMPLE = FILE.parent / ".env.example"
# The former manager's names, as its description has them.
SEED = [
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_CA_CERT",
    "DOCKER_CLIENT_CERT",
    "DOCKER_CLIENT_KEY",
    "DOCKER_TLS_PORT",
    "DOCKER_HOST_IP",
    "HOST_IP",
    "DOCKER_HOST_GATEWAY",
    "GATEWAY",
    "CONTAINER_MEMORY_LIMIT",
    "CONTAINER_CPU_QUOTA",
    "CONTAINER_CPU_PERIOD",
    "MAX_CONCURRENT_SESSIONS",
    "SESSION_TOKEN_LENGTH",
    "SESSION_TOKEN_EXPIRY_HOURS",
    "USE_DATABASE_STORAGE",
    "DB_HOST",
    "DB_PORT",
    "DB_USER",
    "DB_PASSWORD",
    "DB_NAME",
    "DB_MIN_CONNECTIONS",
    "DB_MAX_CONNECTIONS",
    "DB_MAX_QUERIES",
    "DB_MAX_INACTIVE_LIFETIME",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "LOG_FILE",
]


def told() -> dict[str, str]:
    """Every line of the example with its # taken off."""
    return dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))


def test_the_example_is_the_generated_one() -> None:
    """`make docs` writes it."""
    assert EXAMPLE.read_text() == env_example.page()


def test_every_setting_is_in_the_example_and_nothing_else_but_what_compose_reads() -> None:
    """That docs/settings.md has every setting is a house rule."""
    assert set(told()) == set(names()) | set(variables())


def test_no_former_name_is_missing() -> None:
    assert [name for name in SEED if name not in told()] == []


def test_the_example_can_be_used_as_it_is_and_with_every_default_given() -> None:
    """Nothing in it is refused: neither a name, which a misspelling would be, nor a value."""
    assert not re.search(r"^[^#\n]", EXAMPLE.read_text(), re.MULTILINE), "all is commented out"
    given = {name: value for name, value in told().items() if value}
    assert len(given) > 60
    assert load(given | {"PUBLISH_ADDRESS": "127.0.0.1"}) == load({})


def test_secrets_are_empty() -> None:
    """Or say that the gateway makes one."""
    found = {value for name, value in told().items() if name.lower() in SECRET or "PASSWORD" in name}
    assert found == {"", "auto"}


def test_compose_names_settings_only() -> None:
    """And what it gives the gateway, together with the example, is a start without a problem."""
    needed = {"DB_PASSWORD": "a" * 32, "POSTGRES_PASSWORD": "b" * 32}
    services = read(needed)["services"]
    environment = services["gateway"]["environment"]
    taken_away = {name for name, value in environment.items() if not value}
    assert [name for name in environment if name not in names()] == ["POSTGRES_PASSWORD"]
    assert taken_away == {"DB_ADMIN_URL", "POSTGRES_PASSWORD"}, "whatever .env says"
    assert [name for name in services["migrate"]["environment"] if name not in names()] == []
    settings = load({**{name: value for name, value in told().items() if value}, **needed, **environment})
    assert settings.docker.publish_address == "172.30.250.1"
    assert settings.database.given


@pytest.mark.parametrize("name", ["DB_PASSWORD", "POSTGRES_PASSWORD"])
def test_without_a_password_nothing_starts(name: str) -> None:
    needed = {"DB_PASSWORD": "a" * 32, "POSTGRES_PASSWORD": "b" * 32}
    with pytest.raises(ValueError, match=f"{name} must be set"):
        read(needed | {name: ""})
