"""The protocols that are simulated: each has rules, schedules and things that have to happen in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.archive import rules as archive_rules
from tests.simulation.archive import schedule as archive_schedule
from tests.simulation.rules import OFF, Rules
from tests.simulation.schedule import COUNTED, run_schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.simulation.schedule import Verdict


@dataclass(frozen=True, slots=True)
class Simulated:
    """One protocol."""

    rules: type[Any]
    off: Mapping[str, type[Any]]
    """By the name of a rule, and of a way to break it: the rules without it."""
    run: Callable[..., Verdict]
    counted: tuple[str, ...]
    """What the schedules have to contain, or they prove nothing."""
    promises: tuple[str, ...]
    done: str
    """What is true after a schedule without a broken promise."""

    def without(self, off: str | None) -> Any:
        """Return the rules, one of them switched off."""
        return self.off[off]() if off is not None else self.rules()


TIMESERIES = Simulated(
    Rules, OFF, run_schedule, COUNTED, ("lost", "twice", "left"), "nothing lost, nothing twice, everything stored"
)
ARCHIVE = Simulated(
    archive_rules.Rules,
    archive_rules.OFF,
    archive_schedule.run_schedule,
    archive_schedule.COUNTED,
    ("lost", "twice", "changed", "left"),
    "nothing lost, nothing twice, no block changed, everything archived",
)
PROTOCOLS = {"timeseries": TIMESERIES, "archive": ARCHIVE}
