"""Wording: who wrote a value reads no type's name and no regular expression."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from gateway.api.shapes import CreateSession
from gateway.settings import BadSettings, load
from gateway.wording import misfit_of_body


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            {"host_dir": "../etc"},
            "host_dir: expected one name of at most 64 letters, digits, dots, dashes and underscores, not a path.",
        ),
        ({"owner": 3}, "owner: expected text or nothing, got a whole number."),
        ({"owner": ""}, "owner: expected text of at least 1 characters."),
        ({"onwer": "ada"}, "The body: there is no field onwer here."),
        ([], "The body: expected an object, got a list."),
    ],
)
def test_a_body_of_the_wrong_shape_is_told_in_plain_words(body: Any, sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(body, CreateSession)
    assert misfit_of_body(raised.value) == sentence


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CONTAINER_CPU_QUOTA": "5"}, "expected a whole number of at least 1000"),
        ({"DB_PORT": "99999"}, "expected a whole number of at most 65535"),
        ({"PROXY_READ_TIMEOUT": "0"}, "expected a number of more than 0.0"),
        ({"MAX_CONCURRENT_SESSIONS": "many"}, "expected a whole number, got text"),
        ({"LOG_CONSOLE": "maybe"}, "expected true or false, got text"),
        ({"SESSION_RUNTIME": "podman"}, "expected auto or docker or local or mock"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_in_plain_words(environment: Mapping[str, str], reason: str) -> None:
    with pytest.raises(BadSettings) as raised:
        load(environment)
    ((name, value),) = environment.items()
    assert raised.value.problems == [f"{name}: {value!r} cannot be used: {reason}"]
