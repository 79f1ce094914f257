"""What `docs/security.md` says: the permissions and roles that its readers copy, for a namespace of a test."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
_BLOCK = re.compile(r"```(?:json)?\n(.*?)```", re.DOTALL)
_LIST = re.compile(r"^(publish|subscribe): \[\n(.*?)^\]", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    """Return the first block under each heading of a role."""
    sections = [section.split("\n", 1) for section in PAGE.split("\n### ")[1:]]
    return {title: found[1] for title, text in sections if (found := _BLOCK.search(text))}


def subjects(role: str) -> list[tuple[str, str]]:
    """Return what a role may do in NATS, as pairs of action and subject."""
    lists = _LIST.findall(blocks()[role])
    return [(action, subject) for action, lines in lists for subject in re.findall(r'^ +"(.+?)"', lines, re.MULTILINE)]


def permissions(role: str, namespace: str, *, without: tuple[str, str] | None = None) -> str:
    """Return a role's permissions as nats-server reads them: the very text of the page, or one line less."""
    block = blocks()[role]
    if without is not None:
        action, subject = without
        start = block.index(f"{action}: [")
        line = re.compile(rf'^ +"{re.escape(subject)}".*\n', re.MULTILINE)
        block = block[:start] + line.sub('  "nothing"\n', block[start:], count=1)  # an empty list would permit all
    return f"{{\n{block.replace('NAMESPACE', namespace)}}}"


def mongodb_role(role: str, namespace: str) -> dict[str, Any]:
    """Return the command that makes a role."""
    command: dict[str, Any] = json.loads(blocks()[role].replace("NAMESPACE", namespace))
    return command


def pattern(subject: str, namespace: str) -> re.Pattern[str]:
    """Return what matches in an error that names a subject, as the page has it or as it was sent."""
    plain = re.escape(subject.replace("NAMESPACE", namespace))
    plain = plain.replace(r"\*", r"[^.\s\"]+").replace(r"\.>", r"\.[^\s\"]+")
    return re.compile(rf"to {plain}(?=[\s\",;)]|$)", re.MULTILINE)
