"""The wait before the next try: tenacity's curves, as plain functions of the attempt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tenacity import RetryCallState, Retrying, wait_exponential, wait_random

Curve: TypeAlias = Callable[[int], float]
"""Seconds to wait after an attempt, by its number from 1."""


def exponential(initial: float, cap: float) -> Curve:
    """Double from `initial` to `cap`, and add up to a quarter of `initial` at random."""
    wait = wait_exponential(multiplier=initial, max=cap) + wait_random(0, initial / 4)

    def delay(attempt: int) -> float:
        state = RetryCallState(Retrying(), fn=None, args=(), kwargs={})
        state.attempt_number = attempt
        return wait(state)

    return delay
