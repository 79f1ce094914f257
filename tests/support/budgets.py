"""Accounts of a pool, moved by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.flow.pool import Account


KIB = 1024


LIMIT = 1024 * KIB


def nobody() -> None:
    """Wait for nothing."""


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def move(account: Account, size: int) -> None:
    """Let so much come and be settled."""
    used = account.used
    account.use(used + size)
    account.use(used)
