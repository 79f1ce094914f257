"""The rules of the house: who may import whom, and what is built in one place alone."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import pytest

from tests.house.imports import (
    PACKAGES,
    ROOT,
    Import,
    all_imports,
    imports_in,
    made_in,
    modules,
    room_of,
    tree_of,
)
from tests.house.rooms import FACES, FLOORS, HOUSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_ROOMS = 21
# KEY_logs is what a help text calls a collection
NAME_OF_A_THING = re.compile(r"(?<!KEY)_(?:logs|fail)\b|\bKV_|\$KV\.|[:.]logs[:.]")


# --- floors


def climbing(imports: Iterable[Import]) -> Iterator[str]:
    """Yield the imports of a room that is not on a lower floor of the same package."""
    for found in imports:
        importer, imported = room_of(found.importer), room_of(found.module)
        inside = importer != imported and importer.partition(".")[0] == imported.partition(".")[0]
        if inside and FLOORS[importer] <= FLOORS[imported]:
            yield f"{found}: floor {FLOORS[importer]} imports from floor {FLOORS[imported]}"


@pytest.mark.parametrize("package", PACKAGES)
def test_each_room_stands_on_one_floor_and_each_room_on_a_floor_exists(package: str) -> None:
    listed = [room for floor in HOUSE[package] for room in floor]
    paths = [path for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    own = {path.stem for path in paths} - ({"__init__"} if "__init__" not in listed else set())
    assert sorted(listed) == sorted(own)


def test_a_room_imports_only_rooms_of_a_lower_floor() -> None:
    assert list(climbing(all_imports())) == []


def test_collector_has_at_most_21_rooms() -> None:
    assert sum(map(len, HOUSE["collector"])) <= MAX_ROOMS


def test_transfer_imports_nothing_of_the_collector() -> None:
    assert [
        str(found) for found in all_imports() if (found.importer + found.module).startswith("transfercollector")
    ] == []


def circle_in(imports: Iterable[Import]) -> list[str]:
    """Return the modules of one circle, the first of them twice, or nothing."""
    graph = defaultdict(set)
    for found in imports:
        if found.importer != found.module:
            graph[found.importer].add(found.module)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_in(all_imports()) == []


def test_actors_are_imported_by_the_composition_root_alone() -> None:
    importers = {found.importer for found in all_imports() if room_of(found.module) == "collector.actors"}
    assert {importer for importer in importers if room_of(importer) != "collector.actors"} == {"collector.app"}


# --- one place for a thing


def handed_on(imports: Iterable[Import]) -> Iterator[str]:
    """Yield the imports of a name from a module that has it from another one."""
    for found in imports:
        if found.name and found.module not in FACES and found.name not in made_in(found.module):
            yield str(found)


def test_each_name_is_imported_from_the_module_that_makes_it() -> None:
    outside = [path for folder in ("tests", "bench", "grafana", "docs") for path in (ROOT / folder).rglob("*.py")]
    others = (found for path in outside for found in imports_in(str(path.relative_to(ROOT)), tree_of(path)))
    assert list(handed_on([*all_imports(), *others])) == []


@pytest.mark.parametrize("face", FACES)
def test_nothing_inside_a_package_imports_from_its_own_face(face: str) -> None:
    inside = [found for found in all_imports() if found.module == face and f"{found.importer}.".startswith(f"{face}.")]
    assert [str(found) for found in inside] == []


def built_in(tree: ast.Module) -> Iterator[str]:
    """Yield the texts outside of docstrings that are part of the name of a stream, subject, bucket or collection."""
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            yield from [f"line {node.lineno}: {node.value!r}"] if NAME_OF_A_THING.search(node.value) else []


def test_names_of_streams_subjects_buckets_and_collections_are_built_in_one_module() -> None:
    found = {module: list(built_in(tree_of(path))) for module, path in modules().items()}
    assert {module for module, texts in found.items() if texts} == {"transfer.names"}, found


def commands_in(tree: ast.Module) -> Iterator[str]:
    """Yield the functions that click makes commands of."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(decorator_list=[ast.Call(func=ast.Attribute(attr="command" | "group")), *_]):
                yield node.name


def test_a_command_lives_in_the_room_of_its_subject_as_command() -> None:
    with_commands = {module for module, path in modules().items() if list(commands_in(tree_of(path)))}
    assert {module.rpartition(".")[2] for module in with_commands} == {"cli", "command"}
    assert list(commands_in(tree_of(modules()["collector.cli"]))) == ["main", "run"]


# --- the rules themselves see what they are for

BREAKING = {
    "at the top": "from collector.actors.writer import Writer",
    "for type checkers": "if TYPE_CHECKING:\n    from collector.actors.writer import Writer",
    "in a function": "def f():\n    from collector.actors import writer",
    "as a whole": "import collector.actors.writer as w",
    "in a branch of an error": "try:\n    pass\nexcept ImportError:\n    from collector.actors.writer import Writer",
    "by its text": "writer = import_module('collector.actors.writer')",
    "of the same floor": "from collector.telemetry.log import EventLog",
}


@pytest.mark.parametrize("text", BREAKING.values(), ids=BREAKING)
def test_an_import_upwards_is_seen_wherever_it_stands(text: str) -> None:
    assert len(list(climbing(imports_in("collector.decoding.codec", ast.parse(text))))) == 1


def test_a_circle_is_seen() -> None:
    ring = [
        Import("transfer.a", 1, "transfer.b"),
        Import("transfer.b", 1, "transfer.c"),
        Import("transfer.c", 1, "transfer.a"),
    ]
    assert len(circle_in(ring)) == 4
    assert circle_in(ring[:2]) == []


@pytest.mark.parametrize(
    "text",
    [
        'f"{key}_logs"',
        "key + '_fail'",
        'f"KV_{bucket}"',
        'f"$KV.{bucket}.>"',
        'f"{namespace}:logs:{key}"',
        '".logs.".join([namespace, key])',
        '"%s.logs.>" % namespace',
    ],
)
def test_a_name_that_is_built_elsewhere_is_seen(text: str) -> None:
    assert len(list(built_in(ast.parse(f'"""KV_ in a docstring is none."""\nx = {text}')))) == 1
