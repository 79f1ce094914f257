"""What is reported of a batch, for tests of those who hear of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from collector.events import BatchSettled
from collector.model import Reason, Trigger

_SETTLED = BatchSettled(
    "a",
    batch=1,
    trigger=Trigger.AGE,
    messages=5,
    entries=9,
    bytes=100,
    written=6,
    duplicates=1,
    dead_letters=Counter({Reason.RULE: 2}),
    write_seconds=0.1,
    latency_seconds=0.2,
    unanswered=0,
)


def settled(logger: str = "a", **changes: Any) -> BatchSettled:
    """Return a batch of nine entries: six written, one there already, two dead letters."""
    return replace(_SETTLED, logger=logger, **changes)
