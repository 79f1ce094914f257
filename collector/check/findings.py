"""A finding: its subject, the expected and the found state, and the advice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from transfer.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """The service works, and may surprise."""
    WRONG = "wrong"
    """Entries would not arrive, or could be lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `expected` and `do` are empty where all is well."""

    level: Level
    about: str
    got: str
    expected: str = ""
    do: str = ""

    @property
    def line(self) -> str:
        """Return the finding without its level as one printable line, also when a value has line ends in it."""
        expected = f"expected {self.expected}, got " if self.expected else ""
        line = f"{self.about}: {expected}{self.got}{f' -> {self.do}' if self.do else ''}"
        return " ".join(printable(line).splitlines())

    def __str__(self) -> str:
        return f"{self.level:<8} {self.line}"


def ok(about: str, got: str) -> Finding:
    """Make a finding that all is well."""
    return Finding(Level.OK, about, got)


def warning(about: str, *, expected: str, got: str, do: str) -> Finding:
    """Make a finding about something that may surprise."""
    return Finding(Level.WARNING, about, got, expected, do)


def wrong(about: str, *, expected: str, got: str, do: str) -> Finding:
    """Make a finding about something that does not work."""
    return Finding(Level.WRONG, about, got, expected, do)


def counted(findings: Sequence[Finding]) -> dict[str, int]:
    """Return the number of findings of each level."""
    return {level.value: sum(finding.level is level for finding in findings) for level in Level}


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return all findings as JSON values."""
    return {**counted(findings), "findings": [asdict(finding) for finding in findings]}
