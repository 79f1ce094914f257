"""Cost growth: the same drain for backlogs of different length, the same entries over different numbers of loggers.

Backlogs are drained as in the group drain. Over loggers the time begins with the put of all their KV entries, so it has
the start of all loggers in it; their streams and collections are there.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.entries import Form
from bench.fleet import Fleet
from bench.groups.drain import Case, drain

if TYPE_CHECKING:
    from bench.stand import Stand

NAME = "growth"
RATE, COST, MEMORY = "entries/s", "collector µs", "peak MiB"


def of_backlog(entries: int) -> str:
    """Name the case of a backlog."""
    return f"backlog of {entries:,}"


def of_loggers(count: int) -> str:
    """Name the case of a number of loggers."""
    return f"{count:,} loggers" if count > 1 else "1 logger"


def measure(stand: Stand) -> None:
    """Measure every backlog and every number of loggers in each round."""
    with ExitStack() as stack:
        fleets = [Fleet(stand, stack.enter_context(stand.space()), count) for count in stand.plan.logger_counts]
        for _ in stand.rounds():
            for entries in stand.plan.backlogs:
                _measure_backlog(stand, entries)
            for fleet in fleets:
                _measure_loggers(stand, fleet)


def _measure_backlog(stand: Stand, entries: int) -> None:
    stand.progress.doing(of_backlog(entries))
    measures = drain(stand, Case(Form.GO), entries).measures()
    stand.figures.add(NAME, of_backlog(entries), {name: measures[name] for name in (RATE, COST, MEMORY)})


def _measure_loggers(stand: Stand, fleet: Fleet) -> None:
    case = of_loggers(len(fleet.keys))
    stand.progress.doing(case)
    measures = fleet.drain(stand.plan.spread_backlog)
    stand.figures.add(NAME, case, {name: measures[name] for name in (RATE, COST, MEMORY)})
