"""Rules of tests: no rule can be stated in a spec yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from collector.errors import Poison
from collector.model import Reason
from collector.rules import DROP, Drop

if TYPE_CHECKING:
    from collector.model import Envelope


class ByFate:
    """Does what the entry's field `fate` says: drop it, poison, change it, or nothing. It notes what it has seen."""

    def __init__(self, name: str = "by_fate") -> None:
        self.name = name
        self.seen: list[Any] = []

    def apply(self, envelope: Envelope) -> Envelope | Literal[Drop.ON_PURPOSE]:
        """See `Rule`."""
        self.seen.append(envelope.data.get("n"))
        match envelope.data.get("fate"):
            case "drop":
                return DROP
            case "poison":
                raise Poison(Reason.RULE, f"{self.name}: expected a better fate, got poison")
            case "change":
                envelope.data["changed"] = True
                envelope.metadata = {"by": self.name}
        return envelope
