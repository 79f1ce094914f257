"""The bytes that a replica may hold, over all its loggers: who may ask JetStream for how much.

Half of the budget is promised: every logger can always have its equal part of it. The other half is lent to whoever
has a use for it. An account counts what it has asked for and what it holds; together they never exceed what was
granted, except by the one message that is larger than any grant, and after a logger was added by its promised part,
until what was lent before has come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST_ASK = 16 * 1024
"""A part smaller than this would be asked for again and again; with very many loggers the promise is exceeded."""


class Account:
    """What one logger uses of the budget: bytes asked for and bytes in hand."""

    def __init__(self, budget: Budget, on_room: Callable[[], None]) -> None:
        self._budget = budget
        self.on_room = on_room
        self.used = 0

    def room(self, *, flowing: bool) -> int:
        """Return how many bytes more this account may use now.

        A logger that nothing comes from is given its promised part only: what it has asked for may lie there unused.
        """
        return self._budget.room(self, flowing=flowing)

    def use(self, used: int) -> None:
        """Say how many bytes the account uses from now on; whoever waits for room is told when that makes some."""
        freed = used < self.used
        self._budget.used += used - self.used
        self.used = used
        if freed:
            self._budget.tell()

    def close(self) -> None:
        """Give everything back."""
        self._budget.accounts.discard(self)
        self._budget.waiting.discard(self)
        self.use(0)


class Budget:
    """The ceiling of one replica."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.accounts: set[Account] = set()
        self.waiting: set[Account] = set()

    def open(self, on_room: Callable[[], None]) -> Account:
        """Open the account of a logger; `on_room` is called when it was refused and there is room again."""
        account = Account(self, on_room)
        self.accounts.add(account)
        return account

    def room(self, account: Account, *, flowing: bool) -> int:
        """Return what is left of the account's promised part and, when its logger flows, of its fair loan."""
        half = self.limit // 2
        promised = max(half // max(1, len(self.accounts)), SMALLEST_ASK)
        room = max(0, promised - account.used)
        if flowing:
            loans = [other.used - promised for other in self.accounts if other.used > promised]
            fair = half // max(1, len(loans)) - max(0, account.used - promised)
            room += max(0, min(fair, half - sum(loans)))
        if room < SMALLEST_ASK:
            self.waiting.add(account)
        return room

    def tell(self) -> None:
        """Wake whoever was refused."""
        waiting, self.waiting = self.waiting, set()
        for account in waiting:
            account.on_room()
