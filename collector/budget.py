"""The bytes that a replica may hold, over all its loggers: who may ask JetStream for how much, and open how much of it.

There are two pools: for what is asked for and lies as it came, and for what is opened, which may be many times as much.
Two, so that what came can never take up the room in which it has to be opened.

Half of a pool is promised: every logger can always have its equal part of it. The other half is lent to whoever has a
use for it. An account counts what it uses; together they never exceed the pool, except by a message that is larger
than any grant (of those opened, not more than another pool in all), and after a logger was added by its promised part,
until what was lent before has come back.

What is asked for comes back only as messages, or when the request expires. So it is lent to the few loggers that most
comes from, and no more than what came lately: a quiet one among very many holds its promised part, and a hot one finds
the rest.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from collector.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST_ASK = 16 * 1024
"""A part smaller than this would be asked for again and again; with very many loggers the promise is exceeded."""
_LENT_TO = 16
"""As many loggers are lent to at a time, or a quarter of very many: those from which most comes."""


class Account:
    """What one logger uses of a pool."""

    def __init__(self, pool: Pool, on_room: Callable[[], None]) -> None:
        self._pool = pool
        self.on_room = on_room
        self.used = 0
        self.excess = 0
        """What it was granted although there was no room."""
        self.flow = Flow()
        """What it has used and given back."""

    def room(self, *, flowing: bool) -> int:
        """Return how many bytes more this account may use now; it is smaller than `SMALLEST_ASK` when none pay.

        A logger that nothing comes from is given its promised part only: what it has asked for may lie there unused.
        Nobody is told when there is more: whoever uses its promised part has something come or settled again.
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

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.used = 0
        self.excess = 0
        self._clock = clock
        self._flow = Flow()
        self.promised = limit
        """What every account can always have."""
        self.accounts: set[Account] = set()
        self._loans = 0
        self._borrowers = 0
        self._counted = True
        """Whether these two are those of what is promised now."""
        self._waiting: dict[Account, int] = {}

    def open(self, on_room: Callable[[], None]) -> Account:
        """Open the account of a logger; `on_room` is called when it was not admitted and would be now."""
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
        self._counted = False

    def _count_loans(self) -> None:
        """Look at all accounts again, but only when somebody is to be lent to: many loggers may have come meanwhile."""
        loans = [loan for account in self.accounts if (loan := self._loan(account.used))]
        self._loans, self._borrowers = sum(loans), len(loans)
        self._counted = True

    def _loan(self, used: int) -> int:
        return max(0, used - self.promised)

    def change(self, account: Account, used: int) -> None:
        """See `Account.use`."""
        before, loan = self._loan(account.used), self._loan(used)
        excess = min(account.excess, used) if loan else 0
        freed, less_excess = account.used - used, excess < account.excess
        self._loans += loan - before
        self._borrowers += bool(loan) - bool(before)
        self.used -= freed
        self.excess += excess - account.excess
        account.used, account.excess = used, excess
        if freed > 0:
            second = int(self._clock())
            account.flow.add(freed, second)
            self._flow.add(freed, second)
        if freed > 0 or less_excess:
            self._tell()

    def room(self, account: Account, *, flowing: bool) -> int:
        """Return what is left of the account's promised part and, when its logger flows, of what it is lent."""
        room = max(0, self.promised - account.used)
        if flowing:
            second = int(self._clock())
            flow = account.flow.recent(second)
            if flow * max(_LENT_TO, len(self.accounts) // 4) >= self._flow.recent(second):
                room += min(self._lent(account), max(0, 2 * flow - self._loan(account.used)))
        return room

    def _lent(self, account: Account) -> int:
        """Return what is left of an account's fair loan."""
        if not self._counted:
            self._count_loans()
        half, loan = self.limit // 2, self._loan(account.used)
        return max(0, min(half // max(1, self._borrowers) - loan, half - self._loans))

    def fits(self, account: Account, size: int) -> bool:
        """See `Account.fits`."""
        return size <= max(0, self.promised - account.used) + self._lent(account)

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
        """Wake those who were not admitted and would be now."""
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
