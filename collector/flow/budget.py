"""The bytes that a replica may hold, over all its loggers: who may ask JetStream for how much, and open how much of it.

There are two pools: for what is asked for and lies as it came, and for what is opened, which may be many times as much.
Two, so that what came can never take up the room in which it has to be opened.

Half of a pool is promised: every logger can always have its equal part of it. The other half is lent to whoever has a
use for it. An account counts what it uses; together they never exceed the pool, except by a message that is larger
than any grant (of those asked for, one at a time; of those opened, not more than another pool in all), and after a
logger was added by its promised part, until what was lent before has come back.

Loggers that wait for such a message's room get it in the order in which they came.

What is asked for comes back only as messages, or when the request expires. So it is lent to the few loggers that most
comes from, and no more than what came lately: a quiet one among very many holds its promised part, and a hot one finds
the rest.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.flow.throughput import Flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALLEST_ASK = 8 * 1024
"""A part smaller than this would be asked for again and again."""
SMALLEST_PROMISE = 2 * SMALLEST_ASK
"""So that one part can be asked for while the other is settled; with very many loggers the promise is exceeded."""
_LENT_TO = 16
"""As many loggers are lent to at a time, or a quarter of very many: those from which most comes."""
PATIENCE = 15.0
"""Seconds that a logger may keep others from the room that they need for their next message, and do nothing with it."""
COMES_WITHIN = 1.0
"""Seconds within which a logger that was told of room asks for it again; after that the next in line may have it."""


class Account:
    """What one logger uses of a pool."""

    def __init__(self, pool: Pool, on_room: Callable[[], None]) -> None:
        self._pool = pool
        self.on_room = on_room
        self.used = 0
        self.excess = 0
        """What it was granted although there was no room."""
        self.ticket = 0
        """Its place in the line of those that asked to be admitted, from the first time it did until it forgoes."""
        self.flow = Flow()
        """What it has used and given back."""
        self.freed_at = pool.now()
        """When it last gave something back."""

    def room(self, *, flowing: bool) -> int:
        """Return how many bytes more this account may use now.

        A logger that nothing comes from is given its promised part only: what it has asked for may lie there unused.
        Nobody is told when there is more: whoever uses its promised part has something come or settled again.
        """
        return self._pool.room(self, flowing=flowing)

    def fits(self, size: int) -> bool:
        """Tell whether there is room for this now."""
        return self._pool.fits(self, size)

    def admits(self, size: int) -> bool:
        """Tell whether this may be used now; what is too large for any room only while the account uses nothing.

        A logger that is admitted says with `use` how much it was. One that is refused is told when there is room again,
        and asks at least every `COMES_WITHIN` seconds: another that was told before it may not come. Its place in the
        line is that of its first time, also when it asks for more, until it says `forgo`.
        """
        return self._pool.admits(self, size)

    @property
    def in_the_way(self) -> bool:
        """Whether it keeps room beyond its promised part for long, of which it gives nothing back, and others starve.

        Those are others that use nothing themselves, and have waited as long for room for their next message.
        """
        return self._pool.is_in_the_way(self)

    @property
    def waits(self) -> bool:
        """Whether it was not admitted since it asked, and did not forgo it."""
        return self._pool.is_waiting(self)

    def forgo(self) -> None:
        """Have what was asked for, or want it no more."""
        self._pool.forgo(self)

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


@dataclass(slots=True)
class _Wait:
    size: int
    since: float
    told_at: float | None = None


class Pool:
    """A number of bytes that accounts share."""

    def __init__(
        self, limit: int, clock: Callable[[], float] = time.monotonic, *, most_excess: int | None = None
    ) -> None:
        """Share `limit` bytes; messages that are too large for any room take `most_excess` more in all, or are one."""
        self.limit = limit
        self._most_excess = limit if most_excess is None else most_excess
        self.used = 0
        self.excess = 0
        self._clock = clock
        self._flow = Flow()
        self.promised = limit
        """What every account can always have."""
        self.accounts: set[Account] = set()
        self._expected = 0
        self._loans = 0
        self._borrowers = 0
        self._counted = True
        """Whether these two are those of what is promised now."""
        self._waiting: dict[Account, _Wait] = {}
        """In the order of their tickets."""
        self._tickets = 0
        self._told_at = -math.inf

    def open(self, on_room: Callable[[], None]) -> Account:
        """Open the account of a logger; `on_room` is called when it was not admitted and would be now."""
        account = Account(self, on_room)
        self.accounts.add(account)
        self._divide()
        return account

    def expect(self, change: int) -> None:
        """Divide among so many loggers more or fewer, whose accounts are open or will be."""
        self._expected += change
        self._divide()

    def close(self, account: Account) -> None:
        """Take back all that an account uses."""
        self._waiting.pop(account, None)
        self.change(account, 0)
        self.accounts.discard(account)
        self._divide()
        self._tell()

    def _divide(self) -> None:
        loggers = max(1, len(self.accounts), self._expected)
        self.promised = max(self.limit // 2 // loggers, SMALLEST_PROMISE)
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
        freed = account.used - used
        excess = min(account.excess - max(0, freed), used) if loan else 0  # it is given back before anything else
        excess = max(0, excess)
        less_excess = excess < account.excess
        self._loans += loan - before
        self._borrowers += bool(loan) - bool(before)
        self.used -= freed
        self.excess += excess - account.excess
        account.used, account.excess = used, excess
        if freed > 0:
            account.freed_at = self._clock()
            second = int(account.freed_at)
            account.flow.add(freed, second)
            self._flow.add(freed, second)
        if self._waiting and (freed > 0 or less_excess):
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
        """Return what is left of an account's fair loan: an equal one, or half of what small ones leave to it."""
        if not self._counted:
            self._count_loans()
        half, loan = self.limit // 2, self._loan(account.used)
        fair = max(half // max(1, self._borrowers), (half - self._loans + loan) // 2)
        return max(0, min(fair - loan, half - self._loans))

    def fits(self, account: Account, size: int) -> bool:
        """See `Account.fits`."""
        return size <= max(0, self.promised - account.used) + self._lent(account)

    def admits(self, account: Account, size: int) -> bool:
        """See `Account.admits`."""
        if not account.ticket:
            self._tickets += 1
            account.ticket = self._tickets
        fits = self.fits(account, size)
        if not fits and not (self._is_free(account, size) and self._is_next(account)):
            self._line_up(account, size)
            return False
        self._waiting.pop(account, None)
        if not fits:
            self.excess += size - account.excess
            account.excess = size
        return True

    def _line_up(self, account: Account, size: int) -> None:
        last, before = next(reversed(self._waiting), None), self._waiting.get(account)
        self._waiting[account] = _Wait(size, self._clock() if before is None else before.since)
        if last is not None and last.ticket > account.ticket:
            self._waiting = dict(sorted(self._waiting.items(), key=lambda one: one[0].ticket))
        if self._clock() - self._told_at > COMES_WITHIN:
            self._tell()  # who was told may not come, and then it is the next one's turn

    def now(self) -> float:
        """Return the time by the pool's clock."""
        return self._clock()

    def is_in_the_way(self, account: Account) -> bool:
        """See `Account.in_the_way`."""
        long_ago = self._clock() - PATIENCE
        if account.used <= self.promised or account.freed_at > long_ago:
            return False
        return any(not other.used and wait.since <= long_ago for other, wait in self._waiting.items())

    def is_waiting(self, account: Account) -> bool:
        """See `Account.waits`."""
        return account in self._waiting

    def forgo(self, account: Account) -> None:
        """See `Account.forgo`."""
        account.ticket = 0
        if self._waiting.pop(account, None):
            self._tell()

    def _is_free(self, account: Account, size: int) -> bool:
        others = self.excess - account.excess
        return not account.used and (not others or others + size <= self._most_excess)

    def _is_next(self, account: Account) -> bool:
        """Whether it is the first of those that wait for nothing of their own, and come when they are told."""
        now = self._clock()
        for other, wait in self._waiting.items():
            if other.ticket >= account.ticket:
                break
            if not _is_overdue(wait, now) and (not other.used or self.fits(other, wait.size)):
                return False
        return True

    def _tell(self) -> None:
        """Wake those who were not admitted and would be now, if all of them came; each once until it comes."""
        now, lendable, free = self._clock(), self._lendable(), True
        self._told_at = now
        for account, wait in list(self._waiting.items()):
            borrows = wait.size - max(0, self.promised - account.used)
            if borrows <= lendable and self.fits(account, wait.size):
                lendable -= max(0, borrows)
            elif free and not account.used:
                free = _is_overdue(wait, now)
                if not self._is_free(account, wait.size):
                    continue
            else:
                continue
            if wait.told_at is None:
                wait.told_at = now
                account.on_room()

    def _lendable(self) -> int:
        if not self._counted:
            self._count_loans()
        return self.limit // 2 - self._loans


def _is_overdue(wait: _Wait, now: float) -> bool:
    return wait.told_at is not None and now - wait.told_at > COMES_WITHIN


class Accounts:
    """Both accounts of one logger."""

    def __init__(self, budget: Budget, on_room: Callable[[], None]) -> None:
        self._budget = budget
        self.received = budget.received.open(on_room)
        """Asked for and in hand, as it comes."""
        self.decoded = budget.decoded.open(on_room)
        """In hand, as what it became."""

    @property
    def in_the_way(self) -> bool:
        """See `Account.in_the_way`."""
        return self.received.in_the_way or self.decoded.in_the_way

    def close(self) -> None:
        """Give everything back."""
        self._budget.accounts.discard(self)
        self.received.close()
        self.decoded.close()


class Budget:
    """The ceiling of one replica."""

    def __init__(self, limit: int) -> None:
        self.received = Pool(limit // 4, most_excess=0)
        self.decoded = Pool(limit - self.received.limit)
        self.accounts: set[Accounts] = set()

    @property
    def used(self) -> int:
        """Return what all use of both pools."""
        return self.received.used + self.decoded.used

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Count on the accounts of a logger while the block lasts.

        Of the many that start together the first ask for no larger part than the last: it comes back late.
        """
        for pool in (self.received, self.decoded):
            pool.expect(+1)
        try:
            yield
        finally:
            for pool in (self.received, self.decoded):
                pool.expect(-1)

    def open(self, on_room: Callable[[], None]) -> Accounts:
        """Open the accounts of a logger; `on_room` is called when one was refused and there is room again."""
        accounts = Accounts(self, on_room)
        self.accounts.add(accounts)
        return accounts
