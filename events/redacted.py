"""A struct that does not show its secrets: settings stand in tracebacks, debug logs and the reports of failed tests."""

from typing import Any, ClassVar, Final

import msgspec

HIDDEN: Final = "[redacted]"


class Redacted(msgspec.Struct, frozen=True, kw_only=True):
    """Fields named in SECRET are not shown when they hold something, neither by ``repr`` nor by rich."""

    SECRET: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return [(name, HIDDEN if value and name in self.SECRET else value) for name, value in fields]
