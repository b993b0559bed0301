"""The rules of the house that need more than a line: each function answers its breaches, one sentence a breach."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.house import tree
from tests.house.tree import Module

MODULE_LINES: Final = 400
FUNCTION_LINES: Final = 60
CLASS_LINES: Final = 250
TOLD_BY_ITS_BODY: Final = 8  # statements; a longer public function has something to promise
_SAYS_NOTHING: Final = {"util", "utils", "helper", "helpers", "manager", "managers"}
_WORD: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_DOOR: Final = re.compile(r"[a-z_]+(?:/[a-z_]+)+\.py")
_IGNORED: Final = re.compile(r"#\s*(type:\s*ignore|noqa|mypy:\s*ignore)(?P<rest>.*)")
_WITH_CODE: Final = re.compile(r"\[[a-z, -]+\]|:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*")


def sizes(module: Module) -> Iterator[str]:
    """Module <= 400 lines, function body <= 60, class <= 250."""
    if module.lines > MODULE_LINES:
        yield f"{module.path} has {module.lines} lines ({MODULE_LINES} at most)"
    for function in module.functions():
        if (lines := tree.body_lines(function)) > FUNCTION_LINES:
            yield f"{module.path}:{function.lineno} {function.name} has {lines} lines ({FUNCTION_LINES} at most)"
    for cls in module.classes():
        if (lines := tree.span(cls)) > CLASS_LINES:
            yield f"{module.path}:{cls.lineno} class {cls.name} has {lines} lines ({CLASS_LINES} at most)"


def missing_docstrings(module: Module) -> Iterator[str]:
    """Every module; in the product every public protocol, class with methods, and function that is not plain."""
    if module.text.strip() and not tree.docstring_lines(module.tree):
        yield f"{module.path} does not say what it is"
    if module.room not in tree.ROOMS:
        return
    for node in _public_definitions(module.tree):
        if not tree.docstring_lines(node) and _has_a_contract(node):
            yield f"{module.path}:{node.lineno} {node.name} does not say what it promises"


def empty_names(module: Module) -> Iterator[str]:
    """Names that say nothing: of files, classes and functions."""
    stem = module.path.rpartition("/")[2].removesuffix(".py")
    if stem == "data" or _says_nothing(stem):
        yield f"{module.path}: the file's name says nothing"
    for node in (*module.functions(), *module.classes()):
        if _says_nothing(node.name) or node.name == "process":
            yield f"{module.path}:{node.lineno} {node.name}: the name says nothing"


def bare_ignores(module: Module) -> Iterator[str]:
    """A ``type: ignore`` or ``noqa`` names its code, and a reason follows in the same comment."""
    for line, comment in module.comments() if _IGNORED.search(module.text) else ():
        found = _IGNORED.search(comment)
        if found is None:
            continue
        code = _WITH_CODE.match(found["rest"])
        reason = found["rest"][code.end() :].strip(" #:-") if code else ""
        if not code or len(reason) < 8:
            yield f"{module.path}:{line} {comment}: say which code and why"


def doors(config: Mapping[str, Any]) -> dict[str, set[str]]:
    """Library -> the modules that may import it: named in its ``banned-api`` message in pyproject.toml."""
    banned = config["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    return {library: set(_DOOR.findall(entry["msg"])) for library, entry in banned.items()}


def exempt_modules(config: Mapping[str, Any]) -> set[str]:
    """Modules that ruff lets through; it knows no library by name there, so ``doors`` does."""
    ignores = config["tool"]["ruff"]["lint"]["per-file-ignores"]
    return {path for path, codes in ignores.items() if "TID251" in codes and "*" not in path}


def wrong_doors(module: Module, allowed: Mapping[str, set[str]], exempt: set[str]) -> Iterator[str]:
    """Imports of a library elsewhere than through its door."""
    for name, line in module.imports():
        for library, modules in allowed.items():
            passes = module.path in modules and module.path in exempt
            if (name == library or name.startswith(f"{library}.")) and not passes:
                yield f"{module.path}:{line} imports {library}; its door is {', '.join(sorted(modules))}"


def only_declares(module: Module) -> bool:
    """Whether nothing in it runs: no function but those of protocols, short constructors, and one-liners."""
    protocols = {id(inner) for cls in module.classes() if tree.is_protocol(cls) for inner in ast.walk(cls)}
    return all(
        id(function) in protocols or tree.statements(function) <= (4 if function.name == "__init__" else 1)
        for function in module.functions()
    )


def _public_definitions(scope: ast.Module | ast.ClassDef) -> Iterator[tree.Function | ast.ClassDef]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and tree.is_public(node.name):
            yield node
        if isinstance(node, ast.ClassDef) and tree.is_public(node.name):
            yield from (inner for inner in _public_definitions(node) if not _promised_by_a_base(inner, node))


def _promised_by_a_base(inner: tree.Function | ast.ClassDef, cls: ast.ClassDef) -> bool:
    """A method that one of our protocols, or a library's base class, already describes."""
    return inner.name in tree.promised_names() or (bool(cls.bases) and not tree.is_protocol(cls))


def _has_a_contract(node: tree.Function | ast.ClassDef) -> bool:
    if isinstance(node, ast.ClassDef):
        return tree.is_protocol(node) or any(isinstance(inner, tree.Function) for inner in node.body)
    return tree.statements(node) > TOLD_BY_ITS_BODY


def _says_nothing(name: str) -> bool:
    return any(word.lower() in _SAYS_NOTHING for word in _WORD.findall(name))
