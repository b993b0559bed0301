"""The operator's settings: defaults are safe, and what cannot serve is said in words before anything starts."""

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from docker.errors import BadDockerSettings
from docker.settings import DockerSettings, certificate_paths, daemon_url, from_environment, parse_size, problems


def test_defaults_have_no_problem() -> None:
    """A laptop without Docker starts with no setting at all."""
    assert problems(DockerSettings()) == []


def test_every_field_is_described() -> None:
    """The settings page of the docs is made of these descriptions."""
    properties = msgspec.json.schema(DockerSettings)["$defs"]["DockerSettings"]["properties"]
    assert [name for name, field in properties.items() if len(field.get("description", "")) < 15] == []


def test_environment_variables_are_upper_case_field_names() -> None:
    settings = from_environment(
        {"DOCKER_HOST": "tcp://box:1", "CONTAINER_PIDS_LIMIT": "64", "DOCKER_TLS_VERIFY": "1", "PATH": "/bin"}
    )
    assert (settings.docker_host, settings.container_pids_limit, settings.docker_tls_verify) == (
        "tcp://box:1",
        64,
        True,
    )


def test_an_unreadable_value_is_refused_by_name() -> None:
    with pytest.raises(BadDockerSettings, match="container_pids_limit"):
        from_environment({"CONTAINER_PIDS_LIMIT": "many"})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4g", 4 << 30),
        ("512M", 512 << 20),
        ("64kb", 64 << 10),
        ("1t", 1 << 40),
        ("1048576", 1 << 20),
        (" 1g ", 1 << 30),
    ],
)
def test_sizes_are_read_in_units_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "g", "4 g", "-1", "4gib", "1.5g", "four", "\u0664g", "4\u212a", "9" * 5000])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    """A misread limit is no limit."""
    with pytest.raises(BadDockerSettings, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["99999999t", "8388608t", "9223372036854775808"])
def test_a_size_that_no_daemon_can_count_is_refused(text: str) -> None:
    with pytest.raises(BadDockerSettings, match="more than a daemon can count"):
        parse_size(text)


@drawn(number=st.integers(0, 10**9), unit=st.sampled_from("kmg"), upper=st.booleans(), b=st.sampled_from(["", "b"]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, upper: bool, b: str) -> None:
    text = f"{number}{unit}{b}"
    size = parse_size(text.upper() if upper else text)
    assert size == number * 1024 ** ("kmg".index(unit) + 1)
    assert parse_size(str(size)) == parse_size(f" {size}b ") == size


@drawn(st.text(max_size=30))
def test_every_text_is_a_size_the_daemon_can_count_or_refused(text: str) -> None:
    """Nothing else comes out of it, whatever goes in."""
    try:
        assert 0 <= parse_size(text) < 1 << 63
    except BadDockerSettings as error:
        assert str(error).endswith(".")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"container_memory_limit": "5m", "container_tmp_size": "1m"}, "6m"),
        ({"container_memory_limit": "0", "container_tmp_size": "1"}, "6m"),
        ({"container_memory_limit": "256m"}, "CONTAINER_TMP_SIZE"),  # the default /tmp has 512m
        ({"container_tmp_size": "0"}, "no limit"),
        ({"container_log_size": "0k"}, "no limit"),
        ({"container_memory_limit": "99999999t"}, "CONTAINER_MEMORY_LIMIT"),
        ({"container_cpu_quota": 10**12}, "cores"),
        ({"container_pids_limit": 10**7}, "kernel"),
        *(
            ({"container_user": user}, "root")
            for user in ("00:1000", "app", "1000", "1000:4294967295", "\u0661:1", "-1:1")
        ),
    ],
)
def test_a_limit_that_would_be_none_or_kill_the_session_is_refused(given: dict[str, Any], word: str) -> None:
    """To the kernel a tmpfs of size 0 has no bound; a /tmp larger than the memory kills whoever fills it."""
    (sentence,) = problems(DockerSettings(**given))
    assert word in sentence


def test_limits_that_fit_are_none() -> None:
    given = {"container_memory_limit": "64m", "container_tmp_size": "64m", "container_cpu_quota": 1000}
    assert problems(msgspec.convert(given, DockerSettings)) == []


@pytest.mark.parametrize("variable", ["CONTAINER_CPU_QUOTA", "CONTAINER_CPU_PERIOD", "CONTAINER_PIDS_LIMIT"])
@pytest.mark.parametrize("value", ["0", "-1", "7", "99999999999999999999"])
def test_a_number_out_of_its_range_is_refused_by_name(variable: str, value: str) -> None:
    """Also zero and -1, which to the daemon mean: no limit."""
    found = [variable.lower()]
    with contextlib.suppress(BadDockerSettings):
        found = problems(from_environment({variable: value}))
    assert found


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"docker_host": "tcp://127.0.0.1:2381"}, "https://127.0.0.1:2381"),
        ({"docker_host": "tcp://box"}, "https://box:2376"),
        ({"docker_host": "https://box:1"}, "https://box:1"),
        ({"docker_host": "tcp://[::1]:77"}, "https://[::1]:77"),
        ({"docker_host_ip": "10.0.0.9", "docker_tls_port": 99}, "https://10.0.0.9:99"),
    ],
)
def test_every_address_becomes_https(given: dict[str, Any], url: str) -> None:
    """On tcp:// a client may send plain text although it was given a TLS context."""
    assert daemon_url(DockerSettings(**given)) == url


@pytest.mark.parametrize(
    "given",
    [
        {"docker_host": "http://127.0.0.1:2375"},
        {"docker_host": "unix:///run/some.sock"},
        {"docker_host": "127.0.0.1:2376"},
        {"docker_host": "tcp://"},
        {"docker_host": "tcp://box:99999"},
        {"docker_host": "tcp://box:2376/path"},
        {"docker_host": "tcp://["},
        {"docker_host": "tcp://box:2376", "docker_tls_verify": False},
        {},
    ],
)
def test_what_is_not_mutual_tls_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadDockerSettings, match="DOCKER_"):
        daemon_url(DockerSettings(**given))


def test_all_problems_are_told_at_once() -> None:
    """An operator mends a configuration in one go, not one restart a mistake."""
    settings = DockerSettings(
        docker_host="http://box",
        container_memory_limit="1m",
        container_tmp_size="big",
        container_log_size="",
        container_user="0:0",
        publish_address="0.0.0.0",
        session_network="a b",
        session_bridge="longer-than-a-kernel-takes",
    )
    found = problems(settings)
    names = ["DOCKER_HOST", "CONTAINER_MEMORY_LIMIT", "CONTAINER_TMP_SIZE", "CONTAINER_LOG_SIZE", "CONTAINER_USER"]
    names += ["PUBLISH_ADDRESS", "SESSION_NETWORK", "SESSION_BRIDGE"]
    assert [name for name in names if not any(sentence.startswith(name) for sentence in found)] == []
    assert len(found) == len(names)


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "203.0.113.7", "::"])
def test_a_public_address_needs_to_be_meant(address: str) -> None:
    """A session's port speaks HTTP without TLS: on the wrong address everyone on the network reaches it."""
    assert "ALLOW_PUBLIC_PUBLISH" in " ".join(problems(DockerSettings(publish_address=address)))
    assert problems(DockerSettings(publish_address=address, allow_public_publish=True)) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.9", "::1", "172.17.0.1"])
def test_loopback_and_bridge_addresses_are_free(address: str) -> None:
    assert problems(DockerSettings(publish_address=address)) == []


def test_certificates_go_by_our_names(tmp_path: Path) -> None:
    settings = DockerSettings(docker_cert_path=str(tmp_path))
    assert certificate_paths(settings) == (
        tmp_path / "ca.pem",
        tmp_path / "client-cert.pem",
        tmp_path / "client-key.pem",
    )


def test_dockers_own_names_serve_when_ours_are_absent(tmp_path: Path) -> None:
    """A folder made for the docker command works as it is; with both, ours win."""
    (tmp_path / "cert.pem").touch()
    settings = DockerSettings(docker_cert_path=str(tmp_path))
    assert certificate_paths(settings)[1:] == (tmp_path / "cert.pem", tmp_path / "key.pem")
    (tmp_path / "client-cert.pem").touch()
    assert certificate_paths(settings)[1:] == (tmp_path / "client-cert.pem", tmp_path / "client-key.pem")


def test_a_named_file_wins_over_the_folder(tmp_path: Path) -> None:
    settings = DockerSettings(docker_cert_path=str(tmp_path), docker_ca_cert="/a", docker_client_key="/k")
    assert certificate_paths(settings) == (Path("/a"), tmp_path / "client-cert.pem", Path("/k"))
