"""A part of a server that is not as the service needs it, and its remedy: fields of JetStream, and collections."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Remedy(Enum):
    """The remedy for a field that is not as needed."""

    UPDATE = "update"
    """The collector sets it; the durable keeps what it knows."""
    REPLACE = "replace"
    """nats-server cannot change the field, so the durable is made anew. Unacked messages stay in the stream."""
    MEND = "mend"
    """Somebody else has to change it, and nothing of the logger is moved until then."""
    HARM = "harm"
    """The logger works, but some of its entries become dead letters, or dead letters are lost."""
    RISK = "risk"
    """The logger works, and what may happen to its entries is said."""
    NOTE = "note"
    """The logger works, and the field may be meant so: only `collector check` says it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as needed."""

    about: str
    field: str
    """As JetStream calls it; empty for a collection, where `expected` names the property."""
    expected: str
    got: str
    remedy: Remedy
    why: str
    """The consequence; empty where `got` names it."""
    command: str
    value: Any = None
    """As the server has it."""
    wanted: object = None
    stated: str = ""

    def __str__(self) -> str:
        expected = f"{self.field} {self.expected}".lstrip()
        why, do = (f" ({self.why})" if self.why else ""), (f"; {self.command}" if self.command else "")
        return f"{self.about}: expected {expected}, got {self.got}{why}{do}"


def with_remedy(differences: Iterable[Difference], *remedies: Remedy) -> tuple[Difference, ...]:
    """Return those about which one of these may be done."""
    return tuple(difference for difference in differences if difference.remedy in remedies)


def without_risks(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return those that keep the service from working as it has to."""
    return with_remedy(differences, Remedy.UPDATE, Remedy.REPLACE, Remedy.MEND)
