"""Where the gateway is and which key opens it; what cannot be used is said in a sentence and never shown."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import client
from gateway.cli.exits import Exit, Failure


@pytest.mark.parametrize(
    ("bind", "called"),
    [
        ("", "http://127.0.0.1:8000"),
        ("127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("[::]:9000", "http://[::1]:9000"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("gateway.example:80", "http://gateway.example:80"),
    ],
)
def test_the_address_that_is_listened_on_is_called(bind: str, called: str) -> None:
    assert client.address(None, {"GATEWAY_BIND": bind}) == called


def test_a_refusal_speaks_of_options() -> None:
    told = "A purpose must be given: This reads one session: say in X-Audit-Purpose why, in up to 500 characters."
    assert client.by_option(told).endswith("This reads one session: say with --purpose why, in up to 500 characters.")
    assert client.by_option("The parameter limit must be a number.") == "--limit must be a number."
    assert client.by_option("This Idempotency-Key was used") == "This --idempotency-key was used"


def test_an_url_comes_first() -> None:
    assert client.address("https://gateway.example", {"GATEWAY_BIND": "127.0.0.1:1"}) == "https://gateway.example"


def test_a_key_file_comes_first_then_the_variable_then_the_operators(tmp_path: Path) -> None:
    given = tmp_path / "given.key"
    given.write_text("gwk_given\n")
    (tmp_path / "operator.key").write_text("gwk_operator\n")
    here = {"GATEWAY_DATA_DIR": str(tmp_path)}
    assert client.key(given, here | {"GATEWAY_KEY": "gwk_variable"}) == "gwk_given"
    assert client.key(None, here | {"GATEWAY_KEY": "gwk_variable"}) == "gwk_variable"
    assert client.key(None, here) == "gwk_operator"


@pytest.mark.parametrize(
    "attempt",
    [
        lambda _: client.address("ftp://gateway.example", {}),
        lambda _: client.address("http://", {}),
        lambda _: client.address("http://[bad", {}),
        lambda _: client.address("http://127.0.0.1:99999", {}),
        lambda _: client.address("http://127.0.0.1:x", {}),
        lambda _: client.address(None, {"GATEWAY_BIND": "127.0.0.1:65536"}),
        lambda _: client.address(None, {"GATEWAY_BIND": "127.0.0.1:0"}),
        lambda _: client.address(None, {"GATEWAY_BIND": "localhost"}),
        lambda _: client.key(None, {"GATEWAY_KEY": "gwk_two words"}),
        lambda _: client.key(None, {"GATEWAY_KEY": "gwk_\u00e9"}),
        lambda here: client.key(None, {"GATEWAY_DATA_DIR": str(here)}),
        lambda here: client.key(here, {}),
        lambda here: client.key(here / "none.key", {}),
        lambda _: client.segment(""),
        lambda _: client.segment(".."),
        lambda _: client.header("--idempotency-key", "a\nb"),
        lambda _: client.header("--idempotency-key", "\u2603"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(attempt: Callable[[Path], str], tmp_path: Path) -> None:
    with pytest.raises(Failure) as failure:
        attempt(tmp_path)
    assert failure.value.code is Exit.USAGE
    (sentence,) = failure.value.sentences
    assert sentence.endswith(".")
    assert "gwk_two" not in sentence


def test_an_id_cannot_name_another_path() -> None:
    assert client.segment("../keys?x#y") == "..%2Fkeys%3Fx%23y"
