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
        """Say how many bytes the account uses from now on; whoever waits for room is told when there is enough."""
        self._pool.change(self, used)

    @property
    def tight(self) -> bool:
        """Whether it pays to know closely what is used: more than half of the pool is."""
        return 2 * self._pool.used > self._pool.limit

    def close(self) -> None:
        """Give everything back."""
        self._pool.close(self)


class Pool:
    """A number of bytes that accounts share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.excess = 0
        self.promised = limit
        """What every account can always have."""
        self.accounts: set[Account] = set()
        self._loans = 0
        self._borrowers = 0
        self._waiting: dict[Account, int] = {}

    def open(self, on_room: Callable[[], None]) -> Account:
        """Open the account of a logger; `on_room` is called when it was refused and there is room again."""
        account = Account(self, on_room)
        self.accounts.add(account)
        self._divide()
        return account

    def close(self, account: Account) -> None:
        """Take back all that an account uses."""
        self._waiting.pop(account, None)
        self.change(account, 0)
        self.accounts.discard(account)
        self._divide()
        self._tell()

    def _divide(self) -> None:
        self.promised = max(self.limit // 2 // max(1, len(self.accounts)), SMALLEST_ASK)
        loans = [loan for account in self.accounts if (loan := self._loan(account.used))]
        self._loans, self._borrowers = sum(loans), len(loans)

    def _loan(self, used: int) -> int:
        return max(0, used - self.promised)

    def change(self, account: Account, used: int) -> None:
        """See `Account.use`."""
        before, loan = self._loan(account.used), self._loan(used)
        excess = min(account.excess, used) if loan else 0
        freed = used < account.used or excess < account.excess
        self._loans += loan - before
        self._borrowers += bool(loan) - bool(before)
        self.used += used - account.used
        self.excess += excess - account.excess
        account.used, account.excess = used, excess
        if freed:
            self._tell()

    def room(self, account: Account, *, flowing: bool) -> int:
        """Return what is left of the account's promised part and, when its logger flows, of its fair loan."""
        room = self._room(account, flowing=flowing)
        if room < SMALLEST_ASK:
            self._waiting[account] = SMALLEST_ASK
        return room

    def _room(self, account: Account, *, flowing: bool) -> int:
        room = max(0, self.promised - account.used)
        if flowing:
            half, loan = self.limit // 2, self._loan(account.used)
            room += max(0, min(half // max(1, self._borrowers) - loan, half - self._loans))
        return room

    def fits(self, account: Account, size: int) -> bool:
        """See `Account.fits`."""
        return size <= self._room(account, flowing=True)

    def admits(self, account: Account, size: int) -> bool:
        """See `Account.admits`."""
        if self.fits(account, size):
            return True
        if self._is_free(account, size):
            self.excess += size - account.excess
            account.excess = size
            return True
        self._waiting[account] = size
        return False

    def _is_free(self, account: Account, size: int) -> bool:
        others = self.excess - account.excess
        return not account.used and (not others or others + size <= self.limit)

    def _tell(self) -> None:
        """Wake those who were refused and would not be now."""
        for account, size in list(self._waiting.items()):
            if self.fits(account, size) or self._is_free(account, size):
                del self._waiting[account]
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
