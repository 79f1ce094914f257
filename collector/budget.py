"""The bytes that a replica may hold, over all its loggers: who may ask JetStream for how much, and open how much of it.

There are two pools: for what is asked for and lies as it came, and for what is opened, which may be many times as much.
Two, so that what came can never take up the room in which it has to be opened.

Half of a pool is promised: every logger can always have its equal part of it. The other half is lent to whoever has a
use for it. An account counts what it uses; together they never exceed the pool, except by a message that is larger
than any grant (of those opened, not more than another pool in all), and after a logger was added by its promised part,
until what was lent before has come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST_ASK = 16 * 1024
"""A part smaller than this would be asked for again and again; with very many loggers the promise is exceeded."""


class Account:
    """What one logger uses of a pool."""

    def __init__(self, pool: Pool, on_room: Callable[[], None]) -> None:
        self._pool = pool
        self.on_room = on_room
        self.used = 0
        self.excess = 0
        """What it was granted although there was no room."""

    def room(self, *, flowing: bool) -> int:
        """Return how many bytes more this account may use now.

        A logger that nothing comes from is given its promised part only: what it has asked for may lie there unused.
        """
        return self._pool.room(self, flowing=flowing)

    def fits(self, size: int) -> bool:
        """Tell whether there is room for this now."""
        return self._pool.fits(self, size)

    def admits(self, size: int) -> bool:
        """Tell whether this may be used now; what is too large for any room only while the account uses nothing.

        Whoever is admitted says with `use` how much it was; whoever is refused is told when there is room again.
        """
        return self._pool.admits(self, size)

    def use(self, used: int) -> None:
        """Say how many bytes the account uses from now on; whoever waits for room is told when that makes some."""
        excess = min(self.excess, used) if used > self._pool.promised else 0
        freed = used < self.used or excess < self.excess
        self._pool.used += used - self.used
        self._pool.excess += excess - self.excess
        self.used, self.excess = used, excess
        if freed:
            self._pool.tell()

    @property
    def tight(self) -> bool:
        """Whether it pays to know closely what is used: more than half of the pool is."""
        return 2 * self._pool.used > self._pool.limit

    def close(self) -> None:
        """Give everything back."""
        self._pool.accounts.discard(self)
        self._pool.waiting.discard(self)
        self.use(0)


class Pool:
    """A number of bytes that accounts share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.excess = 0
        self.accounts: set[Account] = set()
        self.waiting: set[Account] = set()

    def open(self, on_room: Callable[[], None]) -> Account:
        """Open the account of a logger; `on_room` is called when it was refused and there is room again."""
        account = Account(self, on_room)
        self.accounts.add(account)
        return account

    def room(self, account: Account, *, flowing: bool) -> int:
        """Return what is left of the account's promised part and, when its logger flows, of its fair loan."""
        half, promised = self.limit // 2, self.promised
        room = max(0, promised - account.used)
        if flowing:
            loans = [other.used - promised for other in self.accounts if other.used > promised]
            fair = half // max(1, len(loans)) - max(0, account.used - promised)
            room += max(0, min(fair, half - sum(loans)))
        if room < SMALLEST_ASK:
            self.waiting.add(account)
        return room

    @property
    def promised(self) -> int:
        """What every account can always have."""
        return max(self.limit // 2 // max(1, len(self.accounts)), SMALLEST_ASK)

    def fits(self, account: Account, size: int) -> bool:
        """See `Account.fits`."""
        return size <= self.promised - account.used or size <= self.room(account, flowing=True)

    def admits(self, account: Account, size: int) -> bool:
        """See `Account.admits`."""
        if self.fits(account, size):
            return True
        if not account.used and (not self.excess or self.excess + size <= self.limit):
            account.excess = size
            self.excess += size
            return True
        self.waiting.add(account)
        return False

    def tell(self) -> None:
        """Wake whoever was refused."""
        waiting, self.waiting = self.waiting, set()
        for account in waiting:
            account.on_room()


class Accounts:
    """Both accounts of one logger."""

    def __init__(self, budget: Budget, on_room: Callable[[], None]) -> None:
        self._budget = budget
        self.received = budget.received.open(on_room)
        """Asked for and in hand, as it comes."""
        self.opened = budget.opened.open(on_room)
        """In hand, as what it became."""

    def close(self) -> None:
        """Give everything back."""
        self._budget.accounts.discard(self)
        self.received.close()
        self.opened.close()


class Budget:
    """The ceiling of one replica."""

    def __init__(self, limit: int) -> None:
        self.received = Pool(limit // 4)
        self.opened = Pool(limit - self.received.limit)
        self.accounts: set[Accounts] = set()

    @property
    def used(self) -> int:
        """Return what all use of both pools."""
        return self.received.used + self.opened.used

    def open(self, on_room: Callable[[], None]) -> Accounts:
        """Open the accounts of a logger; `on_room` is called when one was refused and there is room again."""
        accounts = Accounts(self, on_room)
        self.accounts.add(accounts)
        return accounts
