"""Wording: what msgspec says of a value that does not fit, in words for whoever wrote the value.

Its own sentences speak of types and regular expressions: for whoever wrote the code.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from docker import host_dirs

_KINDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "nothing",
}
_FORMS: Final[Mapping[str, str]] = {
    f"^{host_dirs.NAME}$": "one name of at most 64 letters, digits, dots, dashes and underscores, not a path",
}
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_BOUND: Final = re.compile(r"Expected `(\w+)` (of length )?(>=|<=|>|<) (\S+)")
_FORM: Final = re.compile(r"Expected `str` matching regex '(.*)'", re.DOTALL)
_CHOICE: Final = re.compile(r"\^\(([\w|]+)\)\$")
_KIND: Final = re.compile(r"`([\w| ]+)`")


def misfit(error: msgspec.ValidationError) -> str:
    """What was expected, without the field."""
    said = str(error).partition(" - at `")[0]
    if form := _FORM.fullmatch(said):
        return f"expected {_FORMS.get(form[1]) or _form(form[1])}"
    if bound := _BOUND.fullmatch(said):
        told = f"expected {_KINDS.get(bound[1], bound[1])} of {_BOUNDS[bound[3]]} {bound[4]}"
        return f"{told} characters" if bound[2] else told
    if said.startswith("Object contains unknown field"):
        return f"there is no field {said.split('`')[1]} here"
    told = _KIND.sub(lambda kinds: " or ".join(_KINDS.get(kind, kind) for kind in kinds[1].split(" | ")), said)
    return told[:1].lower() + told[1:]


def _form(pattern: str) -> str:
    words = _CHOICE.fullmatch(pattern)
    return words[1].replace("|", " or ") if words else f"text of the form {pattern}"


def misfit_of_body(error: msgspec.ValidationError) -> str:
    """A sentence with the field, such as ``owner: expected text, got a whole number.``"""
    field = str(error).partition(" - at `$")[2].rstrip("`").lstrip(".")
    return f"{field or 'The body'}: {misfit(error)}."
