"""Writes ``docs/settings.md`` out of the settings' own structs: ``make docs``. A test compares the page with them."""

from typing import Any, Final

import msgspec
from msgspec import inspect

from gateway.settings import rooms

_WORDS: Final = {
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
    inspect.StrType: "text",
}
_HEAD: Final = """\
# Settings

Each is an environment variable. All problems are told at once, before anything starts. A name that is no setting
refuses the start when it begins with `GATEWAY_`, or is a setting's but for two letters or for one word more or less
(`CONTAINER_MEMORY`, `DB_PASSWORD_FILE`): the message has the near one. Any other name passes, also `SESSION_*`,
`CONTAINER_*` and `DOCKER_*`, since other programs have such names too. `python -m gateway config` shows the values in
force and where each is from; in a clone say `.venv/bin/python -m gateway`, or run `. .venv/bin/activate` once. This
page is generated (`make docs`).
"""


class Setting(msgspec.Struct, frozen=True):
    """A row of the page."""

    name: str
    kind: str
    default: str
    meaning: str

    def row(self) -> str:
        cells = (f"`{self.name}`", self.kind, self.default, self.meaning)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def structs() -> list[type[msgspec.Struct]]:
    """Every struct that the gateway's settings are composed of, in their order: what is read is what the page shows."""
    return list(rooms().values())


def settings_of(struct: type[msgspec.Struct]) -> list[Setting]:
    """Its settings; fields that are themselves settings structs only compose and have rows of their own."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    return [_setting(field) for field in described.fields if not isinstance(_plain(field.type), inspect.StructType)]


def page() -> str:
    """The whole of ``docs/settings.md``."""
    parts = [_HEAD]
    for struct in structs():
        rows = "\n".join(setting.row() for setting in settings_of(struct))
        if not rows:
            continue
        first_sentence = (struct.__doc__ or "").strip().partition("\n")[0].replace("``", "`")
        source = struct.__module__.replace(".", "/") + ".py"
        heading = f"## {struct.__name__.removesuffix('Settings') or 'Gateway'}\n\n{first_sentence} (`{source}`)\n"
        parts.append(f"{heading}\n| variable | value | default | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _setting(field: inspect.Field) -> Setting:
    return Setting(field.encode_name.upper(), _kind(field.type), _default(field), _meaning(field.type))


def _default(field: inspect.Field) -> str:
    value: Any = field.default
    if value is msgspec.NODEFAULT:
        return "required" if field.default_factory is msgspec.NODEFAULT else f"`{field.default_factory()}`"
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return f"`{_number(value)}`"


def _kind(described: inspect.Type) -> str:
    plain = _plain(described)
    if isinstance(plain, inspect.UnionType):
        return " or ".join(_kind(part) for part in plain.types if not isinstance(part, inspect.NoneType))
    if isinstance(plain, inspect.LiteralType):
        return ", ".join(f"`{value}`" for value in plain.values)
    if isinstance(plain, inspect.EnumType):
        return ", ".join(f"`{member.value}`" for member in plain.cls)
    if isinstance(plain, inspect.StrType) and plain.pattern and plain.pattern.startswith("^("):
        return ", ".join(f"`{word}`" for word in plain.pattern[2:-2].split("|"))
    return _WORDS.get(type(plain), "text") + _bounds(plain)


def _bounds(plain: inspect.Type) -> str:
    names = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    told = [
        f"{word} {_number(bound)}" for key, word in names.items() if (bound := getattr(plain, key, None)) is not None
    ]
    return f", {', '.join(told)}" if told else ""


def _number(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _plain(described: inspect.Type) -> inspect.Type:
    return described.type if isinstance(described, inspect.Metadata) else described


def _meaning(described: inspect.Type) -> str:
    schema = described.extra_json_schema if isinstance(described, inspect.Metadata) else None
    told = str((schema or {}).get("description", "")).strip().removesuffix(".")
    names_a_value = told.partition(" ")[0].endswith(":")
    return told if names_a_value else told[:1].upper() + told[1:]


if __name__ == "__main__":
    print(page(), end="")
