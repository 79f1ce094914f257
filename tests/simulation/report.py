"""What came out of schedules, for people and for machines."""

from __future__ import annotations

from inspect import getdoc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.campaign import Findings
    from tests.simulation.protocols import Simulated


def counts(findings: Findings, protocol: Simulated) -> dict[str, int]:
    """Return everything that is counted."""
    broken = findings.broken.broken if findings.broken else ""
    promises = {promise: int(promise == broken) for promise in protocol.promises}
    return {"schedules": findings.schedules, **{name: findings.tally[name] for name in protocol.counted}, **promises}


def table(findings: Findings, protocol: Simulated) -> str:
    """Return it as lines of a table."""
    return "\n".join(f"{name:26} {count:12,}" for name, count in counts(findings, protocol).items())


def sentence(rules: type) -> str:
    """Return what is switched off, in words."""
    return getdoc(rules) or rules.__name__
