"""What each module of the packages imports, read from its text: also in functions and for type checkers alone."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGES = ("collector", "transfer")


@dataclass(frozen=True)
class Import:
    """One name, or a whole module when `name` is empty, and where the import stands."""

    importer: str
    line: int
    module: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name or 'all'} of {self.module}"


@cache
def modules() -> dict[str, Path]:
    """Return the file of each module of the packages."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {module_of(path): path for path in paths}


def module_of(path: Path) -> str:
    """Return the dotted name that a file is imported under."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    """Return what Python's own parser reads in a file."""
    return ast.parse(path.read_text())


def imports_in(importer: str, tree: ast.AST) -> Iterator[Import]:
    """Yield every import of the packages, whatever it stands under."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (Import(importer, node.lineno, alias.name) for alias in names if _is_ours(alias.name))
            case ast.ImportFrom(module=str(module), names=names, level=0) if _is_ours(module):
                for alias in names:
                    inner = f"{module}.{alias.name}"
                    yield Import(importer, node.lineno, *((inner, "") if inner in modules() else (module, alias.name)))
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"expected absolute imports, got a relative one in {importer}:{node.lineno}")
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(module))]) if _is_ours(
                module
            ):
                yield Import(importer, node.lineno, module)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


@cache
def all_imports() -> tuple[Import, ...]:
    """Return the imports of all modules of the packages."""
    return tuple(found for module, path in modules().items() for found in imports_in(module, tree_of(path)))


def room_of(module: str) -> str:
    """Return package and room; a package's own `__init__` is a room too."""
    package, _, rest = module.partition(".")
    return f"{package}.{rest.partition('.')[0] or '__init__'}"


@cache
def made_in(module: str) -> frozenset[str]:
    """Return the names that a module makes itself at its top level, and does not import."""
    return frozenset(_made_by(tree_of(modules()[module]).body))


def _made_by(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If(body=inner, orelse=other):
                yield from _made_by([*inner, *other])
            case ast.Try(body=inner, handlers=handlers, orelse=other):
                yield from _made_by([*inner, *(each for one in handlers for each in one.body), *other])
