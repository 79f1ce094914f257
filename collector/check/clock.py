"""How far two clocks are apart, when one of them is read over a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.check.findings import ok, warning

if TYPE_CHECKING:
    from collector.check.findings import Finding

TOLERATED = 1.0
"""Seconds."""


def ahead(theirs: float, asked: float, answered: float) -> float:
    """Return by how much a clock is ahead of ours at least; it was read between `asked` and `answered`."""
    if theirs > answered:
        return theirs - answered
    return min(0.0, theirs - asked)


def judge_clock(server: str, seconds: float | None) -> Finding:
    """Compare a server's clock with ours."""
    about = f"clock of {server}"
    if seconds is None:
        return ok(about, "not compared, as nothing it says has a time in it yet")
    if abs(seconds) <= TOLERATED:
        return ok(about, f"within {TOLERATED:g} s of this machine's")
    direction = "ahead of" if seconds > 0 else "behind"
    return warning(
        about,
        expected=f"at most {TOLERATED:g} s between it and this machine's",
        got=f"{abs(seconds):.1f} s {direction} it",
        do="synchronise the clocks; latencies and times of dead letters are wrong by that much, nothing is lost",
    )
