"""Sentences of docstrings and comments name their subject: a relative pronoun without a noun is none."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FILES = sorted(path for package in ("collector", "transfer") for path in (ROOT / package).rglob("*.py"))
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
RIDDLE = re.compile(
    r"(?:What|Whatever|Whoever|Whom|So (?:many|much)|As (?:many|much)|Of (?:so|those|these|what|whom|all that)) .*[^?]"
    r"|.*\b[Ww]h?omever\b.*|.*\b[Ww]hoever\b.*",
    re.DOTALL,
)


def prose(code: str) -> Iterator[str]:
    """Yield docstrings, the strings below fields and constants, and comments; lines of comments that follow as one."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
    comments: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            text = re.sub(r"^#\s*(?:(?:noqa|type):\s*[\w, \[\]-]*?(?: - |$))?", "", token.string)
            if comments and comments[-1][0] == token.start[0] - 1 and token.line.lstrip().startswith("#"):
                comments[-1] = (token.start[0], f"{comments[-1][1]} {text}")
            else:
                comments.append((token.start[0], text))
    yield from (text for _, text in comments)


def riddles(code: str) -> list[str]:
    """Return the sentences whose subject is no noun."""
    return [one for text in prose(code) for one in SENTENCE.split(text.strip()) if RIDDLE.fullmatch(one)]


@pytest.mark.parametrize(
    "sentence",
    [
        "What has stopped is forgotten.",
        "It waits. Whoever comes later is refused.",
        "Of those that start together the first one asks.",
        "So many connections in a row were refused.",
        "The batch is given to whoever asks first.",
    ],
)
def test_a_riddle_is_found(sentence: str) -> None:
    assert riddles(f'"""{sentence}"""')
    assert riddles(f"x = 1  # {sentence}")


@pytest.mark.parametrize(
    "sentence", ["The message says what was expected.", "What is a logger?", "Somewhat later it ends. So it is."]
)
def test_a_plain_sentence_is_none(sentence: str) -> None:
    assert not riddles(f'"""{sentence}"""')
    assert not riddles(f"x = 1  # noqa: S311 - {sentence}")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_sentence_names_its_subject(path: Path) -> None:
    assert riddles(path.read_text()) == [], "start with the thing itself, a word of docs/glossary.md"
