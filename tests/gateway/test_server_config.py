"""hypercorn.toml is read strictly: what hypercorn would take in silence is refused, with the reason or near name."""

from pathlib import Path

import pytest
from hypercorn.config import Config

from gateway import server_config
from gateway.server_config import SHIPPED, BadServerConfig, read


def config(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "hypercorn.toml"
    file.write_text(text)
    return file


def test_the_shipped_one_is_read_and_does_what_it_says() -> None:
    shipped = read(SHIPPED)
    assert (shipped.graceful_timeout, shipped.backlog, shipped.keep_alive_timeout) == (1.0, 1024, 75.0)
    assert shipped.response_headers("h11") == []
    assert shipped.read_timeout is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keep_alive_timeot = 5.0", "keep_alive_timeot is not a key of hypercorn: did you mean keep_alive_timeout?"),
        ("keep-alive-timeout = 5.0", "keep-alive-timeout is not a key of hypercorn: did you mean keep_alive_timeout?"),
        ("zzz = 1", "zzz is not a key of hypercorn"),
        ("[hypercorn]\nbacklog = 1", "hypercorn is not a key of hypercorn"),
        ('backlog = "many"', "backlog: 'many' cannot be used: expected int, got str"),
        ("backlog = true", "backlog: True cannot be used: expected int, got bool"),
        ("server_names = [1]", "server_names: [1] cannot be used: expected str, got int - at $[0]"),
        ("create_sockets = 1", "create_sockets is not a key of hypercorn"),
        ("_bind = ['x']", "_bind is not a key of hypercorn"),
        ("ssl_enabled = true", "ssl_enabled is not a key of hypercorn"),
        ("log = 1", "log is not a key of hypercorn"),
        ("cert_reqs = 2", "cert_reqs is refused: use verify_mode"),
        ("workers = 2", "workers is refused: hypercorn does not heed it when it runs inside another process"),
        ("read_timeout = 5", "read_timeout is refused: it cuts event streams that are quiet"),
        ("max_requests = 5", "max_requests is refused: it ends the server past our drain"),
        ('bind = "0.0.0.0:80"', "bind is refused: GATEWAY_BIND is the only address that is listened on"),
        ('accesslog = "-"', "accesslog is refused: LOG_* settings say where log lines go and how they look"),
    ],
)
def test_what_would_be_taken_in_silence_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadServerConfig) as refused:
        read(config(tmp_path, text))
    (told,) = refused.value.problems
    assert told.startswith(f"hypercorn.toml: {problem}")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadServerConfig) as refused:
        read(config(tmp_path, "workers = 2\nbaklog = 1\nh2_max_concurrent_streams = []"))
    assert len(refused.value.problems) == 3


@pytest.mark.parametrize("text", ["backlog = ", "\x00"])
def test_what_is_no_toml_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadServerConfig, match="cannot be read"):
        read(config(tmp_path, text))


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadServerConfig, match=r"cannot be read: .*No such file"):
        read(tmp_path / "none.toml")


def test_what_matters_can_be_set(tmp_path: Path) -> None:
    told = read(
        config(tmp_path, 'certfile = "c"\nkeyfile = "k"\nroot_path = "/x/"\nkeep_alive_timeout = 5\nverify_mode = 2')
    )
    assert (told.certfile, told.keyfile, told.root_path, told.keep_alive_timeout) == ("c", "k", "/x", 5)


def test_every_refused_key_is_one_that_hypercorn_knows() -> None:
    """A reason for a key that is gone would be a lie."""
    assert all(hasattr(Config, name) for name in server_config.REFUSED)
