"""Conditions that fields of durables and streams have to meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.difference import Remedy
from transfer.jetstream.api import NANOSECONDS
from transfer.jetstream.comparison import Need

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_INACTIVE = 60.0
"""Seconds after which a durable that nobody asks may go: a replica that writes slowly does not ask meanwhile."""


def equals(value: object) -> Callable[[Any], bool]:
    """Return the condition that a field has this value."""
    return lambda found: bool(found == value)


def no_limit(found: int) -> bool:
    """Return whether a limit limits nothing."""
    return found <= 0


def unset(field: str, why: str) -> Need:
    """Return the need that a field is not set."""
    return Need(field, "not set", lambda found: not found, Remedy.UPDATE, why)


def rarely_inactive(found: int) -> bool:
    """Return whether a durable stays while replicas write slowly."""
    return found == 0 or found / NANOSECONDS >= LEAST_INACTIVE
