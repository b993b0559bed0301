"""What is in the repository: its files, its Python modules as syntax trees, and figures of them."""

import ast
import functools
import io
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent.parent
ROOMS: Final = ("events", "projections", "docker", "gateway")
_NOT_OURS: Final = {"var", "__pycache__", "dist", "build", "certs"}
_HIDDEN_OURS: Final = {".ci", ".gitignore", ".env.example"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(msgspec.Struct, frozen=True):
    """A Python file. ``path`` is relative to the root, with slashes."""

    path: str
    text: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]  # of the tree, walked once

    @property
    def room(self) -> str:
        return self.path.partition("/")[0]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    def functions(self) -> Iterator[Function]:
        """Every function and method, nested ones too."""
        return (node for node in self.nodes if isinstance(node, Function))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self.nodes if isinstance(node, ast.ClassDef))

    def imports(self) -> Iterator[tuple[str, int]]:
        """Dotted names of what is imported anywhere in it, with the line."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module, node.lineno
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)

    def comments(self) -> Iterator[tuple[int, str]]:
        """Line and text of each comment."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, as far as a walk without git can tell."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if _ours(name) and not name.endswith(".egg-info"))
        found += [Path(folder) / name for name in sorted(names) if _ours(name) and not name.endswith((".pyc", ".pem"))]
    return tuple(found)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every Python file."""
    return tuple(parse(relative(path), path.read_text(encoding="utf-8")) for path in files() if path.suffix == ".py")


def parse(path: str, text: str) -> Module:
    """The module that ``text`` would be at ``path``."""
    parsed = ast.parse(text, path)
    return Module(path, text, parsed, tuple(ast.walk(parsed)))


def product() -> list[Module]:
    """The modules of the four rooms."""
    return [module for module in modules() if module.room in ROOMS]


def docstring_lines(node: ast.AsyncFunctionDef | ast.FunctionDef | ast.ClassDef | ast.Module) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def body_lines(function: Function) -> int:
    """Lines from the first statement after signature and docstring to the end; 0 when there is none."""
    rest = function.body[1:] if docstring_lines(function) else function.body
    return (function.end_lineno or 0) - rest[0].lineno + 1 if rest else 0


def statements(function: Function) -> int:
    """Statements at any depth, without the docstring."""
    inner = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
    return inner - bool(docstring_lines(function))


def span(node: ast.ClassDef | Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_public(name: str) -> bool:
    return not name.startswith("_")


def is_protocol(node: ast.ClassDef) -> bool:
    """A typing.Protocol; asyncio's are something else."""
    return any(ast.unparse(base).partition("[")[0] in ("Protocol", "typing.Protocol") for base in node.bases)


@functools.cache
def promised_names() -> frozenset[str]:
    """Methods of our protocols: the promise stands there, once for every implementation."""
    protocols = (cls for module in product() for cls in module.classes() if is_protocol(cls))
    return frozenset(inner.name for cls in protocols for inner in cls.body if isinstance(inner, Function))


def _ours(name: str) -> bool:
    return name in _HIDDEN_OURS or (not name.startswith(".") and name not in _NOT_OURS)
