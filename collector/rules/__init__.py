"""Rules, which change or drop entries between decoding and document, as a logger's spec states them. Pure.

No spec can state a rule yet; only their interface is here.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Envelope
    from transfer.wire import LoggerSpec


class Drop(Enum):
    """The answer of a rule that an entry is not to be stored."""

    ON_PURPOSE = "on_purpose"


DROP: Final = Drop.ON_PURPOSE


class Rule(Protocol):
    """Changes an entry, lets it pass, or drops it."""

    @property
    def name(self) -> str:
        """The label of the rule in the metric of dropped entries: one of few names, as a spec states them."""

    def apply(self, envelope: Envelope) -> Envelope | Literal[Drop.ON_PURPOSE]:
        """Return the entry as it is to be stored, or `DROP`; the envelope may be changed in place.

        It is called once for each entry of a delivery, in order, and again for a delivery that comes again. Raises
        Poison when the entry can never be stored by this rule: then it is a dead letter with its original bytes.
        """


def no_rules(spec: LoggerSpec) -> Sequence[Rule]:  # noqa: ARG001 - no spec states a rule
    """Return the rules of a logger, in the order in which they are applied: none."""
    return ()
