"""Tells failing writes from a hiccup, for one logger and for a whole replica. Pure: the caller has a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.telemetry.sentences import alike

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILING_AFTER = 5.0
"""Seconds without a success, from the start of a try that failed, after which a logger is failing."""


class Failing:
    """The tries of one logger since its last success."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said = ""

    def failed(self, began: float, now: float, why: str) -> bool:
        """Note a failed try; return whether to report that the logger is failing for this reason."""
        self._since = began if self._since is None else min(self._since, began)
        like = alike(why)
        if now - self._since < FAILING_AFTER or like == self._said:
            return False
        self._said = like
        return True

    def succeeded(self) -> bool:
        """Note a success; return whether the logger had been reported as failing."""
        was_failing = bool(self._said)
        self._since, self._said = None, ""
        return was_failing


def no_write_succeeds(failing: Mapping[str, float], loggers: int, last_success: float | None) -> bool:
    """Tell whether the writes of a whole replica fail, and not only those of one of its loggers.

    `failing` has the time since which each failing logger fails. The whole replica fails when it has never written
    anything, when all its loggers fail, or when several loggers began to fail and no write has succeeded since. One
    failing logger among many is no reason: it would fail on every replica.
    """
    if last_success is None or len(failing) == loggers:
        return bool(failing)
    return sum(since > last_success for since in failing.values()) > 1
