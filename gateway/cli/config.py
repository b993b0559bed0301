"""``config``: every setting, its value, where that is from, and what it means. Secrets are not shown."""

import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect

from gateway.cli import printing
from gateway.cli.direct import settings
from gateway.cli.options import Json, family
from gateway.settings import SECRET, Settings, rooms

app = family("Every setting: value, source and meaning.")
HIDDEN: Final = "[hidden]"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting in force."""

    name: str
    value: Any
    default: Any
    source: str  # environment, default
    meaning: str


@app.command()
def config(json: Json = False) -> None:
    """Every setting in force. With settings that cannot be used: exit code 2 and every problem, a line each."""
    found = list(in_force(settings(), set(os.environ)))
    if json:
        printing.document(found)
        return
    printing.table(
        ["setting", "value", "source", "default", "meaning"],
        [[one.name, _text(one.value), one.source, _text(one.default), one.meaning] for one in found],
    )


def in_force(chosen: Settings, given: set[str]) -> Iterator[Setting]:
    """Every setting; ``given`` names the variables that are set."""
    for room, struct in rooms().items():
        described = inspect.type_info(struct)
        assert isinstance(described, inspect.StructType)
        for field in described.fields:
            value = getattr(getattr(chosen, room), field.name)
            secret = field.name in SECRET and value not in ("", field.default)
            name = field.name.upper()
            yield Setting(
                name=name,
                value=HIDDEN if secret else value,
                default=field.default,
                source="environment" if name in given else "default",
                meaning=_meaning(field.type),
            )


def _meaning(described: inspect.Type) -> str:
    schema = described.extra_json_schema if isinstance(described, inspect.Metadata) else None
    return str((schema or {}).get("description", ""))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else printing.shown(value)
