"""What is said of a run: a table of faults for people, and everything as JSON."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.chaos.verdict import Harm
from tests.chaos.world import CALM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.chaos.game import Outcome, Round

_MOST_DAMAGES, _MOST_IN_JSON = 20, 2000
_LEGEND = """\
struck: the longest time that anything was broken; stop: the longest time that nothing of a logger was stored while its
producers published; calm: the same of a logger that no fault is aimed at; all in seconds."""


@dataclass(slots=True)
class Row:
    """All rounds of one fault."""

    fault: str
    rounds: list[Round] = field(default_factory=list)
    harmed: dict[Harm, int] = field(default_factory=lambda: dict.fromkeys(Harm, 0))

    def values(self) -> dict[str, float]:
        """Return what stands in the table behind the name."""
        return {
            "times": sum(one.strikes.get(self.fault, 1) for one in self.rounds),
            "lost": self.harmed[Harm.LOST],
            "twice": self.harmed[Harm.DUPLICATED],
            "wrong": self.harmed[Harm.WRONG],
            "struck": max(one.struck for one in self.rounds),
            "stop": max(one.longest_stop for one in self.rounds),
            "calm": max(one.stops.get(CALM, 0.0) for one in self.rounds),
        }


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return a row for each fault; the harm of a round with two faults is in the rows of both."""
    by_name: dict[str, Row] = {}
    for outcome in outcomes:
        harmed: defaultdict[int, dict[Harm, int]] = defaultdict(lambda: dict.fromkeys(Harm, 0))
        for damage in outcome.verdict.damages:
            harmed[damage.round][damage.harm] += 1
        for one in outcome.rounds:
            for name in one.faults:
                row = by_name.setdefault(name, Row(name))
                row.rounds.append(one)
                for harm in Harm:
                    row.harmed[harm] += harmed[one.number][harm]
    return sorted(by_name.values(), key=lambda row: row.fault)


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Print the table, the sum, and the first that is wrong."""
    table = rows(outcomes)
    width = max((len(row.fault) for row in table), default=0)
    for row in table[:1]:
        yield f"{'fault':<{width}}" + "".join(f"{head:>8}" for head in row.values())
    for row in table:
        yield f"{row.fault:<{width}}" + "".join(map(_cell, row.values().values()))
    yield ""
    yield from _LEGEND.splitlines()
    yield ""
    yield summary(outcomes)
    damages = [damage for outcome in outcomes for damage in outcome.verdict.damages]
    for damage in damages[:_MOST_DAMAGES]:
        yield f"  {damage.harm}: {damage.source} {damage.number} of round {damage.round}: {damage.what}"
    for outcome in outcomes:
        yield from (
            f"  trouble in round {one.number}, {one.faults}: {one.trouble}" for one in outcome.rounds if one.trouble
        )
        if outcome.left:
            yield f"  left in streams: {outcome.left}"


def _cell(value: float) -> str:
    return f"{value:>8,}" if isinstance(value, int) else f"{value:>8.1f}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Say it in one line."""
    verdicts = [outcome.verdict for outcome in outcomes]
    counts = (f"{sum(verdict.count(harm) for verdict in verdicts):,} {harm}" for harm in Harm)
    confirmed = sum(verdict.confirmed for verdict in verdicts)
    unconfirmed = sum(verdict.unconfirmed for verdict in verdicts)
    struck = sum(one.strikes.get(name, 1) for outcome in outcomes for one in outcome.rounds for name in one.faults)
    kills = sum(one.nats_killed for outcome in outcomes for one in outcome.rounds)
    done = f"{struck} faults, {kills} times a nats-server killed besides"
    return f"{done}, {confirmed:,} entries confirmed, {unconfirmed:,} maybe there: {', '.join(counts)}"


def as_json(outcomes: Sequence[Outcome], seed: int, versions: dict[str, str], settings: dict[str, Any]) -> str:
    """Return everything that is known of the run."""
    return json.dumps(
        {
            "seed": seed,
            "good": all(outcome.good for outcome in outcomes),
            "settings": settings,
            "versions": {"python": platform.python_version(), **versions},
            "faults": [{"fault": row.fault, **row.values()} for row in rows(outcomes)],
            "worlds": [
                {
                    "rounds": [asdict(one) for one in outcome.rounds],
                    "verdict": asdict(replace(outcome.verdict, damages=outcome.verdict.damages[:_MOST_IN_JSON])),
                    "left": outcome.left,
                }
                for outcome in outcomes
            ],
        },
        indent=1,
    )
