"""The numbers of the house: how long a file and a function may be, and how many parameters a constructor may have."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDERS = ("collector", "transfer", "tests", "bench", "grafana")
MAX_FILE = 350
MAX_FUNCTION = 40
"""Lines without the docstring."""
MAX_PARAMETERS = 7
"""Of a constructor that is written by hand, and of a dataclass that changes, where a default counts for nothing.

A frozen dataclass does not count: it is a value, its fields are its names, and no code runs when it is made.
"""
LONG_FILES: set[str] = set()
LONG_FUNCTIONS = {
    "collector/jetstream/parser.py _take_frames",  # the loop of every message: a call in it would cost each of them
}


def files() -> dict[str, str]:
    """Return the text of every Python file by its path."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in [*paths, *ROOT.glob("*.py")]}


FILES = files()


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the name and the lines of every function, without its decorators and its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = 0
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstring = (first.end_lineno or first.lineno) - first.lineno + 1
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


def constructors(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the name of every class and how many parameters its constructor has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name in {"__init__", "__new__"}:
                    arguments = part.args
                    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                    yield node.name, len(given) - 1
            decorators = [ast.unparse(each) for each in node.decorator_list]
            if any("dataclass" in each and "frozen=True" not in each for each in decorators):
                yield node.name, sum(isinstance(part, ast.AnnAssign) and part.value is None for part in node.body)


def test_no_file_is_too_long() -> None:
    long = {path for path, text in FILES.items() if len(text.splitlines()) > MAX_FILE}
    assert long == LONG_FILES


def test_no_function_is_too_long() -> None:
    long = {
        f"{path} {name}"
        for path, text in FILES.items()
        for name, lines in functions(ast.parse(text))
        if lines > MAX_FUNCTION
    }
    assert long == LONG_FUNCTIONS


def test_no_constructor_has_too_many_parameters() -> None:
    many = {
        f"{path} {name}: {count}"
        for path, text in FILES.items()
        for name, count in constructors(ast.parse(text))
        if count > MAX_PARAMETERS
    }
    assert many == set()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("class A:\n    def __init__(self, a, b, /, c, *, d, e=1): ...", 5),
        ("@dataclass(slots=True)\nclass A:\n    a: int\n    b: int = 0\n    c: int", 2),
        ("@dataclass(frozen=True)\nclass A:\n    a: int", None),
    ],
)
def test_parameters_are_counted_of_both_kinds_of_constructors(text: str, count: int | None) -> None:
    assert [count for _, count in constructors(ast.parse(text))] == ([] if count is None else [count])


def test_a_functions_lines_are_counted_without_its_docstring() -> None:
    text = 'async def f():\n    """Do.\n\n    More.\n    """\n    return 1'
    assert list(functions(ast.parse(text))) == [("f", 2)]
