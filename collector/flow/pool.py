"""The bytes that the loggers of a replica share: a guarantee for each of them, and loans for those that need more.

Half of a pool is divided into equal *guarantees*, one for each logger. The other half is lent: the bytes that an
account uses above its guarantee are its *loan*. No loan grows above the *fair share*, which is an equal part for each
borrower or half of what the other borrowers leave, whichever is more.

Example: a pool of 48 MiB and 24 loggers. Each guarantee is 1 MiB, and 24 MiB can be lent. Logger A is the only
borrower: its fair share is 24 MiB, so it may use 25 MiB. Logger B borrows as soon as A has given something back. Now
the fair share of both is 12 MiB, so A borrows nothing more until its loan is below that. If seven loggers borrow
0.1 MiB each, the fair share of A is not 24 / 8 = 3 MiB but 11.65 MiB, half of what the seven leave.

The accounts together use more than the pool in two cases only. A message that is larger than any loan is granted as
*excess*, to an account that uses nothing, in the order of the requests; all excess together is limited. And when a
logger is added, all guarantees shrink, while earlier loans return later.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.flow.throughput import Flow

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST_ASK = 8 * 1024
"""Bytes of the smallest request: smaller ones would have to be made too often."""
SMALLEST_GUARANTEE = 2 * SMALLEST_ASK
"""Bytes of the smallest guarantee: one request can be in flight while the messages of another one are written.
With more than `limit` / 32 KiB loggers the guarantees exceed their half of the pool."""
_BORROWERS = 16
"""Loggers that may borrow for requests at a time, or a quarter of all loggers: those with the highest flow."""
PATIENCE = 15.0
"""Seconds that a logger may keep a loan, and give nothing back, while others wait for room for their next message."""
COMES_WITHIN = 1.0
"""Seconds that a woken logger has for asking again; then the next one in the line may have the room."""
_MANY = 1000
"""Loggers in the line that may ask again within that time; more of them ask less often."""
_PASSED_OVER = 50
"""Loggers in the line that are passed over, when bytes come back, in the search for those that have room now. Without
such a limit 10,000 loggers in an outage would all be looked at for each batch of each of them."""
_LOOK = 1.0
"""Seconds between two searches for starving loggers."""


class Account:
    """The bytes of a pool that one logger uses."""

    __slots__ = ("_pool", "excess", "flow", "freed_at", "on_room", "ticket", "used")

    def __init__(self, pool: Pool, on_room: Callable[[], None]) -> None:
        self._pool = pool
        self.on_room = on_room
        self.used = 0
        self.excess = 0
        """Bytes that were granted although there was no room for them."""
        self.ticket = 0
        """The account's place in the line, from its first `reserve` until `withdraw`; 0 when it is not in the line."""
        self.flow = Flow()
        """Bytes that the account has used and given back."""
        self.freed_at = pool.now()
        """When the account last gave bytes back."""

    def available(self, *, flowing: bool) -> int:
        """Return how many more bytes this account may request now; `flowing` says that messages keep coming.

        Requested bytes come back only as messages, or when the request expires. So only a flowing logger may borrow for
        requests, and only while much of the pool's flow is its own, at most twice its recent flow.
        No wake-up is needed: an account that has used its guarantee always has a message arriving or being settled, and
        asks again then.
        """
        return self._pool.available(self, flowing=flowing)

    def has_room(self, size: int) -> bool:
        """Tell whether the account's guarantee and fair share have room for `size` more bytes now."""
        return self._pool.has_room(self, size)

    def reserve(self, size: int) -> bool:
        """Tell whether the account may use `size` more bytes now; an account that may not joins the line for room.

        A granted account reports with `use` how many bytes it took. A refused account is woken when there is room. It
        asks again at least every `asks_again_within` seconds, for an account in front may be woken and not come. It
        keeps its place in the line, also when it asks for more, until `withdraw`.
        A size larger than any loan is granted only to an account that uses nothing.
        """
        return self._pool.reserve(self, size)

    @property
    def asks_again_within(self) -> float:
        """Seconds after which an account in the line has to ask again although nobody has woken it."""
        return self._pool.asks_again_within

    @property
    def guaranteed(self) -> int:
        """The bytes that this account can always use."""
        return self._pool.guaranteed

    @property
    def blocks_others(self) -> bool:
        """Whether the account has kept a loan for `PATIENCE` seconds without giving bytes back, while others starve.

        A starving account uses nothing itself, and has waited that long for room for its next message.
        """
        return self._pool.is_blocking_others(self)

    @property
    def is_waiting(self) -> bool:
        """Whether the account was refused by `reserve`, and neither granted nor withdrawn since."""
        return self._pool.is_waiting(self)

    def withdraw(self) -> None:
        """Leave the line, because the account has what it asked for or wants it no more."""
        self._pool.withdraw(self)

    def use(self, used: int) -> None:
        """Set the bytes that the account uses, and wake waiting accounts when there is room for them."""
        if used != self.used or self.excess:
            self._pool.change(self, used)

    @property
    def is_scarce(self) -> bool:
        """Whether more than half of the pool is used, so that an exact weight is worth its cost."""
        return 2 * self._pool.used > self._pool.limit

    def close(self) -> None:
        """Give everything back."""
        self._pool.close(self)


@dataclass(slots=True)
class _Wait:
    size: int
    since: float
    woken_at: float | None = None


class Pool:
    """A number of bytes that accounts share."""

    def __init__(
        self, limit: int, clock: Callable[[], float] = time.monotonic, *, most_excess: int | None = None
    ) -> None:
        """Share `limit` bytes; all excess together is at most `most_excess` (default: `limit`), or of one account."""
        self.limit = limit
        self._most_excess = limit if most_excess is None else most_excess
        self.used = 0
        self.excess = 0
        self._clock = clock
        self._flow = Flow()
        self.guaranteed = limit
        """Bytes that every account can always use."""
        self.accounts: set[Account] = set()
        self._expected = 0
        self._loans = 0
        self._borrowers = 0
        self._counted = True
        """Whether `_loans` and `_borrowers` were counted with the present guarantee."""
        self._waiting: dict[Account, _Wait] = {}
        """In the order of their tickets."""
        self._tickets = 0
        self._looked_at = -math.inf
        """When the whole line was last looked through."""
        self._starved = -math.inf, math.inf
        """When it was last looked for starving accounts, and since when the first of them waits."""

    def open(self, on_room: Callable[[], None]) -> Account:
        """Open the account of a logger; `on_room` is called when it was refused and there is room now."""
        account = Account(self, on_room)
        self.accounts.add(account)
        self._divide()
        return account

    def expect(self, change: int) -> None:
        """Change the number of loggers that the guarantees are divided among, before their accounts are opened."""
        self._expected += change
        self._divide()

    def close(self, account: Account) -> None:
        """Take back all bytes of an account."""
        self._waiting.pop(account, None)
        self.change(account, 0)
        self.accounts.discard(account)
        self._divide()
        self._wake_waiting()

    def _divide(self) -> None:
        loggers = max(1, len(self.accounts), self._expected)
        before, self.guaranteed = self.guaranteed, max(self.limit // 2 // loggers, SMALLEST_GUARANTEE)
        self._counted = self._counted and self.guaranteed == before

    def _count_loans(self) -> None:
        """Count all loans anew. It is put off until an account borrows, because many loggers may be added at once."""
        loans = [loan for account in self.accounts if (loan := self._loan(account.used))]
        self._loans, self._borrowers = sum(loans), len(loans)
        self._counted = True

    def _loan(self, used: int) -> int:
        return max(0, used - self.guaranteed)

    def change(self, account: Account, used: int) -> None:
        """See `Account.use`."""
        before, loan = self._loan(account.used), self._loan(used)
        freed = account.used - used
        excess = min(account.excess - max(0, freed), used) if loan else 0  # the excess is given back first
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
            self._wake_waiting()

    def available(self, account: Account, *, flowing: bool) -> int:
        """See `Account.available`."""
        room = max(0, self.guaranteed - account.used)
        if flowing:
            second = int(self._clock())
            flow = account.flow.recent(second)
            if flow * max(_BORROWERS, len(self.accounts) // 4) >= self._flow.recent(second):
                room += min(self._left_to_borrow(account), max(0, 2 * flow - self._loan(account.used)))
        return room

    def _left_to_borrow(self, account: Account) -> int:
        """Return how many more bytes an account may borrow: its fair share without its loan, if as much is left."""
        if not self._counted:
            self._count_loans()
        half, loan = self.limit // 2, self._loan(account.used)
        fair = max(half // max(1, self._borrowers), (half - self._loans + loan) // 2)
        return max(0, min(fair - loan, half - self._loans))

    def has_room(self, account: Account, size: int) -> bool:
        """See `Account.has_room`."""
        return size <= max(0, self.guaranteed - account.used) + self._left_to_borrow(account)

    def reserve(self, account: Account, size: int) -> bool:
        """See `Account.reserve`."""
        if not account.ticket:
            self._tickets += 1
            account.ticket = self._tickets
        has_room = self.has_room(account, size)
        if not has_room and not (self._may_exceed(account, size) and self._is_next(account)):
            self._line_up(account, size)
            return False
        self._waiting.pop(account, None)
        if not has_room:
            self.excess += size - account.excess
            account.excess = size
        return True

    def _line_up(self, account: Account, size: int) -> None:
        last, before = next(reversed(self._waiting), None), self._waiting.get(account)
        self._waiting[account] = _Wait(size, self._clock() if before is None else before.since)
        if before is None and last is not None and last.ticket > account.ticket:
            self._waiting = dict(sorted(self._waiting.items(), key=lambda one: one[0].ticket))
        if self._clock() - self._looked_at > COMES_WITHIN:  # an account that was woken may not come: then the next one
            self._looked_at = self._clock()  # may have the room
            self._wake_waiting(len(self._waiting))

    @property
    def asks_again_within(self) -> float:
        """See `Account.asks_again_within`."""
        return COMES_WITHIN * max(1.0, len(self._waiting) / _MANY)

    def now(self) -> float:
        """Return the time by the pool's clock."""
        return self._clock()

    def is_blocking_others(self, account: Account) -> bool:
        """See `Account.blocks_others`."""
        long_ago = self._clock() - PATIENCE
        if account.used <= self.guaranteed or account.freed_at > long_ago:
            return False
        return self._starving_since() <= long_ago

    def _starving_since(self) -> float:
        """Return since when an account that uses nothing has waited for room; looked for once in a second at most."""
        now = self._clock()
        if not 0 <= now - self._starved[0] < _LOOK:
            starving = [wait.since for account, wait in self._waiting.items() if not account.used]
            self._starved = now, min(starving, default=math.inf)
        return self._starved[1]

    def is_waiting(self, account: Account) -> bool:
        """See `Account.is_waiting`."""
        return account in self._waiting

    def withdraw(self, account: Account) -> None:
        """See `Account.withdraw`."""
        account.ticket = 0
        if self._waiting.pop(account, None):
            self._wake_waiting()

    def _may_exceed(self, account: Account, size: int) -> bool:
        others = self.excess - account.excess
        return not account.used and (not others or others + size <= self._most_excess)

    def _is_next(self, account: Account) -> bool:
        """Whether no account in front of it may take the room: each is overdue, or uses bytes and has no room."""
        now = self._clock()
        for other, wait in self._waiting.items():
            if other.ticket >= account.ticket:
                break
            if not _is_overdue(wait, now) and (not other.used or self.has_room(other, wait.size)):
                return False
        return True

    def _wake_waiting(self, most: int = _PASSED_OVER) -> None:
        """Wake the accounts in the line that would be granted now, if all of them asked; each only once.

        The search ends when `most` accounts were passed over. Those behind them ask again by themselves.
        """
        now, lendable, free, woken = self._clock(), self._lendable(), True, list[Account]()
        for account, wait in self._waiting.items():
            borrows = wait.size - max(0, self.guaranteed - account.used)
            if borrows <= lendable and self.has_room(account, wait.size):
                lendable -= max(0, borrows)
            elif free and not account.used and self._may_exceed(account, wait.size):
                free = _is_overdue(wait, now)
            else:
                free = free and (bool(account.used) or _is_overdue(wait, now))
                most -= 1
                if most <= 0:
                    break
                continue
            if wait.woken_at is None:
                wait.woken_at = now
                woken.append(account)
        for account in woken:
            account.on_room()

    def _lendable(self) -> int:
        if not self._counted:
            self._count_loans()
        return self.limit // 2 - self._loans


def _is_overdue(wait: _Wait, now: float) -> bool:
    return wait.woken_at is not None and now - wait.woken_at > COMES_WITHIN
