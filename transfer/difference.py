"""What is not as the service needs it, in a server: one value for each field, with what may be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Remedy(Enum):
    """What may be done about a field that is not as needed."""

    UPDATE = "update"
    """The collector sets it; the durable keeps what it knows."""
    REPLACE = "replace"
    """nats-server lets nobody change it: so the durable is made anew. What is not acked stays in the stream."""
    MEND = "mend"
    """Somebody else has to change it, and nothing of the logger is moved until then."""
    RISK = "risk"
    """The logger works, and what may happen to its entries is said."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field that is not as needed; the names are those of `Need`."""

    about: str
    field: str
    expected: str
    got: str
    remedy: Remedy
    why: str
    command: str
    value: Any = None
    """As the server has it."""
    wanted: object = None
    stated: str = ""

    def __str__(self) -> str:
        do = f"; {self.command}" if self.command else ""
        return f"{self.about}: expected {self.field} {self.expected}, got {self.got} ({self.why}){do}"


def with_remedy(differences: Iterable[Difference], *remedies: Remedy) -> tuple[Difference, ...]:
    """Return those about which one of these may be done."""
    return tuple(difference for difference in differences if difference.remedy in remedies)


def without_risks(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return those that keep the service from working as it has to."""
    return tuple(difference for difference in differences if difference.remedy is not Remedy.RISK)
