"""What a run has to show, each as a sentence with what was found."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.autoscale.run import DELAY, SHAPE, SPEED, STEADY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.autoscale.run import Run, Sample

BURST, QUIET = SHAPE.starts[1:]
"""Seconds of the run at which the burst begins and ends."""
ACCEPTED = DELAY / SPEED
"""The delay that is accepted, in seconds of the run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that has to be so."""

    what: str
    found: str
    met: bool


def drained_after(samples: Sequence[Sample]) -> float | None:
    """Return how long after the burst no more waited than comes in a second, None when it never was so."""
    return next((one.at - QUIET for one in samples if one.at >= QUIET and one.lag <= STEADY), None)


def oldest(samples: Sequence[Sample]) -> float:
    """Return the greatest age that a message had while it waited."""
    return max(one.oldest or 0.0 for one in samples)


def changes(samples: Sequence[Sample]) -> list[tuple[float, int]]:
    """Return when the number of replicas wanted changed, and by how many."""
    return [(after.at, step) for before, after in pairwise(samples) if (step := after.wanted - before.wanted)]


def findings(run: Run) -> list[Finding]:
    """Judge a run."""
    drained, late = drained_after(run.samples), oldest(run.samples)
    most = max(one.wanted for one in run.samples)
    steps = changes(run.samples)
    downs = sum(step < 0 for _, step in steps)
    turns = sum((before < 0) != (after < 0) for (_, before), (_, after) in pairwise(steps))
    lost, twice = run.published - run.distinct, run.documents - run.distinct
    return [
        Finding("replicas are added for the burst", f"{run.recipe.least} to {most}", most > run.recipe.least),
        Finding(
            f"its backlog is gone within twice the accepted delay, {2 * ACCEPTED:.0f} s of the run",
            "never" if drained is None else f"after {drained:.1f} s",
            drained is not None and drained <= 2 * ACCEPTED,
        ),
        Finding(
            f"no message waits for more than twice the accepted delay, {2 * ACCEPTED:.0f} s",
            f"at most {late:.1f} s",
            0 < late <= 2 * ACCEPTED,
        ),
        Finding("up, then down, and no other turn", f"{turns} turn, {len(steps)} changes", turns == 1),
        Finding(
            "replicas are given up one after the other until the least is left",
            f"{downs} steps down, {run.samples[-1].wanted} at the end",
            bool(downs) and run.samples[-1].wanted == run.recipe.least,
        ),
        Finding(
            "nothing is lost, nothing is there twice",
            f"{run.published:,} published, {run.documents:,} stored: {lost:,} lost, {twice:,} twice,"
            f" {run.letters:,} dead-lettered",
            run.published > 0 and not lost and not twice and not run.letters,
        ),
    ]
