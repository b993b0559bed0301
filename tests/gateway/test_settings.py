"""Settings: read once, strictly, and everything that is wrong told at once."""

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import settings
from gateway.settings import SECRET, BadSettings, load, names, rooms

PLANTED = "planted-secret-value"
# What an ordinary environment holds beside ours, from desktops, containers, clusters and other programs.
FOREIGN: Mapping[str, str] = {
    "PATH": "/usr/bin",
    "LOGNAME": "ada",
    "HOSTNAME": "here",
    "HOSTTYPE": "x86_64",
    "SESSION_MANAGER": "local/here:@/tmp/.ICE-unix/1",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus",
    "DOCKER_BUILDKIT": "1",
    "DOCKER_CONFIG": "/etc/docker",
    "DOCKER_CONTEXT": "default",
    "DOCKER_DEFAULT_PLATFORM": "linux/amd64",
    "DOCKER_TLS": "1",
    "DOCKER_TLS_CERTDIR": "/certs",
    "DOCKER_HOST_NAME": "box",
    "DOCKER_API_VERSION": "1.41",
    "DOCKER_CERTS": "x",
    "DOCKER_FOO": "1",
    "SESSION_FOO": "1",
    "SESSION_SERVICE_HOST": "10.0.0.3",
    "SESSION_PORT": "tcp://10.0.0.3:80",
    "CONTAINER_FOO": "1",
    "CONTAINER_APP_PORT": "8080",
    "CONTAINER_CONNECTION": "machine",
    "CONTAINER_SSHKEY": "/etc/key",
    "CONTAINER_ID": "toolbox",
    "CONTAINER_HOST": "unix:///run/podman",
    "OTEL_TRACES_SAMPLER": "always_on",
    "OTEL_TRACES_SAMPLER_ARG": "1",
    "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces",
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "GATEWAY_SERVICE_HOST": "10.0.0.2",
    "GATEWAY_SERVICE_PORT": "80",
    "GATEWAY_SERVICE_PORT_HTTP": "80",
    "GATEWAY_PORT": "tcp://10.0.0.2:80",
    "GATEWAY_PORT_80_TCP": "tcp://10.0.0.2:80",
    "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.2",
    "GATEWAY_PORT_80_TCP_PROTO": "tcp",
    "GATEWAY_KEY": "gwk_x_y",
    "MODEL": "big",
    "DB_DUMP": "x",
    "PROXY": "x",
}


def problems(environment: Mapping[str, str]) -> list[str]:
    with pytest.raises(BadSettings) as raised:
        load(environment)
    assert str(raised.value) == "; ".join(raised.value.problems)
    return raised.value.problems


def test_an_empty_environment_is_enough() -> None:
    """``make run`` on a bare machine."""
    assert load({}) == settings.Settings()


def test_an_ordinary_environment_is_enough() -> None:
    """What other programs set must not keep the gateway from starting."""
    assert load(FOREIGN) == settings.Settings()


def test_every_setting_is_read_from_its_name() -> None:
    """Its name in upper case and nothing else; no two rooms share one."""
    fields = [field for struct in rooms().values() for field in struct.__struct_fields__]
    assert sorted(names()) == sorted(field.upper() for field in fields)
    changed = load({"GATEWAY_BIND": "[::1]:9", "MAX_CONCURRENT_SESSIONS": "7", "LOG_CONSOLE": "false", "DB_PORT": "6"})
    assert (changed.server.gateway_bind, changed.sessions.max_concurrent_sessions) == ("[::1]:9", 7)
    assert (changed.logs.log_console, changed.database.db_port) == (False, 6)


def test_every_problem_is_told_at_once() -> None:
    """One start, one list: unknown names, values of the wrong kind, and what contradicts itself, in every room."""
    told = problems(
        {
            "GATEWAY_BND": "x",
            "MAX_CONCURRENT_SESSIONS": "many",
            "SESSION_TOKEN_LENGTH": "21",
            "SESSION_TOKEN_SECRET": "short",
            "DB_PORT": "99999",
            "DB_MIN_CONNECTIONS": "30",
            "LOG_LEVEL": "LOUD",
            "LOG_FILE_ENABLED": "true",
            "PROXY_READ_TIMEOUT": "0",
            "CONTAINER_MEMORY_LIMIT": "much",
            "PUBLISH_ADDRESS": "0.0.0.0",
            "DOCKER_HOST": "unix:///run/x",
            "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/33",
            "GATEWAY_ALLOWED_ORIGINS": "chat.example, https://ok.example",
            "SESSION_RUNTIME": "podman",
        }
    )
    for name in (
        "GATEWAY_BND is not a setting: did you mean GATEWAY_BIND?",
        "MAX_CONCURRENT_SESSIONS",
        "SESSION_TOKEN_LENGTH",
        "SESSION_TOKEN_SECRET",
        "DB_PORT",
        "DB_MIN_CONNECTIONS",
        "LOG_LEVEL",
        "LOG_FILE_ENABLED",
        "PROXY_READ_TIMEOUT",
        "CONTAINER_MEMORY_LIMIT",
        "PUBLISH_ADDRESS",
        "DOCKER_HOST",
        "GATEWAY_TRUSTED_PROXIES",
        "'chat.example'",
        "SESSION_RUNTIME",
    ):
        assert sum(name in each for each in told) == 1, (name, told)
    assert len(told) == 15


# OpenTelemetry has names of its own, which its SDK reads.
OURS = sorted(name for name in names() if not name.startswith("OTEL_"))


@pytest.mark.parametrize("name", OURS)
def test_a_slip_is_answered_with_the_near_name(name: str) -> None:
    """A letter left out or doubled in any setting: told, not passed over in silence."""
    for slip in (name[:-1], name[:-2] + name[-1], name + name[-1]):
        if slip in names():
            continue
        (told,) = problems({slip: "x"})
        assert told.startswith(f"{slip} is not a setting: did you mean "), told


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CONTAINER_MEMORY", "CONTAINER_MEMORY_LIMIT"),
        ("CONTAINER_PIDS", "CONTAINER_PIDS_LIMIT"),
        ("CONTAINER_MEMORY_LIMIT_BYTES", "CONTAINER_MEMORY_LIMIT"),
        ("CONTAINER_LIMIT", "CONTAINER_MEMORY_LIMIT or CONTAINER_PIDS_LIMIT"),
        ("SESSION_SECRET", "SESSION_TOKEN_SECRET"),
        ("SESSION_DATA_DAYS", "SESSION_DATA_KEEP_DAYS"),
        ("SESSION_RUNTIME_KIND", "SESSION_RUNTIME"),
        ("DOCKER_HOST_PORT", "DOCKER_HOST"),
        ("DB_PASSWORD_FILE", "DB_PASSWORD"),
        ("MODEL_KEY", "MODEL_API_KEY"),
        ("TEST_DATABASE_URL", ""),
        ("MODEL", ""),
        ("HOST", ""),
    ],
)
def test_a_word_more_or_less_is_answered_with_the_near_name(name: str, meant: str) -> None:
    """What was meant as a limit and does not count is told; a word in front, or one word alone, is anybody's."""
    if not meant:
        load({name: "x"})
        return
    assert problems({name: "x"}) == [f"{name} is not a setting: did you mean {meant}?"]


@pytest.mark.parametrize("days", ["4000000", "99999999999", "-1", "1e3", "ten"])
def test_days_that_no_calendar_has_are_refused(days: str) -> None:
    """One of them ended the start in a traceback, another every round of the worker that removes data."""
    (told,) = problems({"SESSION_DATA_KEEP_DAYS": days})
    assert told.startswith("SESSION_DATA_KEEP_DAYS: ")
    load({"SESSION_DATA_KEEP_DAYS": "99999.5"})


def test_of_our_own_prefix_no_setting_without_it_is_proposed() -> None:
    assert problems({"GATEWAY_FOO": "1"}) == ["GATEWAY_FOO is not a setting: docs/settings.md lists them all"]


@pytest.mark.parametrize("name", ["GATEWAY_", "GATEWAY_X", "GATEWAY_SECRET_OF_MINE", "GATEWAY_PORT"])
def test_an_unknown_name_of_our_own_prefix_is_refused(name: str) -> None:
    (told,) = problems({name: "8000"})
    assert told.startswith(f"{name} is not a setting")


@given(st.sampled_from(sorted(SECRET)), st.sampled_from(["DB_PORT", "GATEWAY_NONE", "LOG_LEVEL"]))
def test_a_secret_is_in_no_message(field: str, wrong: str) -> None:
    """Messages go to terminals, logs and tickets: whatever else is wrong, or the secret itself."""
    for environment in ({field.upper(): "planted"}, {field.upper(): PLANTED, wrong: "x"}):
        try:
            load(environment)
        except BadSettings as error:
            assert "planted" not in str(error)


def test_everything_that_is_a_secret_is_known_as_one() -> None:
    """By its name or its description: who adds one is reminded here."""
    fields = [field for struct in rooms().values() for field in msgspec.structs.fields(struct)]
    told = {
        field.name
        for field in fields
        if field.name.endswith(("_password", "_secret", "_api_key"))
        or any("(secret)" in str(meta) for meta in getattr(field.type, "__metadata__", ()))
    }
    assert told == SECRET


@pytest.mark.parametrize("field", sorted(SECRET))
def test_a_secret_is_not_shown_by_the_struct_that_holds_it(field: str) -> None:
    """Settings are an argument in tracebacks: whichever room the secret is in, alone or with the others."""
    room = names()[field.upper()]
    holds = msgspec.structs.replace(rooms()[room](), **{field: PLANTED})
    everything = msgspec.structs.replace(settings.Settings(), **{room: holds})
    for shown in (repr(holds), str(holds), f"{everything}", str(holds.__rich_repr__())):
        assert PLANTED not in shown and field in shown
    assert getattr(holds, field) == PLANTED


@pytest.mark.parametrize(
    "environment",
    [
        {"SESSION_TOKEN_EXPIRY_HOURS": "inf"},
        {"SESSION_TOKEN_EXPIRY_HOURS": "1e9"},
        {"SESSION_TOKEN_EXPIRY_HOURS": "nan"},
        {"SESSION_TOKEN_EXPIRY_HOURS": "0"},
        {"DRAIN_SECONDS": "inf"},
        {"PROXY_READ_TIMEOUT": "Infinity"},
        {"PROXY_MAX_CONNECTIONS": "1.5"},
        {"DB_PORT": ""},
        {"LOG_CONSOLE": "maybe"},
        {"GATEWAY_ALLOWED_ORIGINS": "https://chat.example/"},
        {"GATEWAY_ALLOWED_ORIGINS": "null"},
        {"GATEWAY_ALLOWED_ORIGINS": "*"},
        {"GATEWAY_TRUSTED_PROXIES": "proxy.example"},
        {"SEALING_SECRET": "x" * 31},
        {"ACCESS_DURABILITY": "after"},
        {"ACCESS_SUMMARY_SECONDS": "0"},
        {"ACCESS_DURABILITY": "before", "ACCESS_EVENTS": "summary"},
    ],
    ids=lambda environment: "{}={}".format(*next(iter(environment.items()))),
)
def test_what_could_only_fail_later_is_refused_now(environment: dict[str, str]) -> None:
    """A sentence at the start instead of a fault at the first request."""
    (told,) = problems(environment)
    assert next(iter(environment)) in told


def test_what_is_wrong_in_one_room_hides_nothing_of_it() -> None:
    """A value that cannot be read is left out, and the others are still held against each other."""
    told = problems(
        {
            "SESSION_TOKEN_LENGTH": "1",
            "SESSION_TOKEN_SECRET": "short",
            "CONTAINER_PIDS_LIMIT": "x",
            "CONTAINER_USER": "0:0",
        }
    )
    assert len(told) == 4, told


@given(st.dictionaries(st.sampled_from(sorted(names())), st.text(max_size=20), max_size=6))
def test_whatever_stands_in_the_environment_is_answered(environment: dict[str, str]) -> None:
    """Settings or sentences: never another exception, whatever the text."""
    try:
        load(environment)
    except BadSettings as error:
        assert error.problems and all(error.problems)
