"""What came out of schedules, for people and for machines."""

from __future__ import annotations

from inspect import getdoc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.campaign import Findings
    from tests.simulation.rules import Rules

COUNTED = (
    *("messages", "entries", "published again", "deliveries", "redeliveries", "late on an old connection"),
    *("take-overs", "given back", "refused", "inserts", "suspects", "copies that waited", "dead letters"),
    *(
        "unknown results",
        "same number again",
        "histories lost",
        "killed half-way",
        "write concern not met",
        "answers lost",
    ),
    *("freezes", "crashes", "stops", "cuts", "mongod killed", "rolled back", "nats-server killed", "leader changes"),
    *("majority stalled", "answered early"),
    *("durables lost", "durables replaced", "deliveries of a lost durable"),
    *("forgotten deliveries", "forgotten acks", "naks of an old holder"),
)
"""What the schedules have to contain, or they prove nothing."""
PROMISES = ("lost", "twice", "left")


def counts(findings: Findings) -> dict[str, int]:
    """Return everything that is counted."""
    broken = findings.broken.broken if findings.broken else ""
    promises = {promise: int(promise == broken) for promise in PROMISES}
    return {"schedules": findings.schedules, **{name: findings.tally[name] for name in COUNTED}, **promises}


def table(findings: Findings) -> str:
    """Return it as lines of a table."""
    return "\n".join(f"{name:26} {count:12,}" for name, count in counts(findings).items())


def sentence(rules: type[Rules]) -> str:
    """Return what is switched off, in words."""
    return getdoc(rules) or rules.__name__
