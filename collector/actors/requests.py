"""Requests: how many messages of one logger are asked for, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.flow.in_hand import MESSAGE
from collector.flow.pool import SMALLEST_ASK
from collector.jetstream.messages import still_pending

if TYPE_CHECKING:
    from collector.flow.budget import Accounts
    from collector.flow.homes import Home
    from collector.flow.in_hand import InHand
    from collector.jetstream.pull import Pull
    from collector.model import Delivery

_PART = 3
"""More is asked for when this part is free, so that requests are few and overlap."""


@dataclass(frozen=True, slots=True)
class PullLimits:
    """The messages that a logger may request and hold at a time, and the bytes of one request."""

    messages: int
    request_bytes: int
    batch: int
    """Messages in hand from which on the logger is shared with all replicas."""


class Requests:
    """Asks JetStream for the messages of one logger that there is room for, and counts what was asked for and came."""

    __slots__ = ("_accounts", "_alone", "_home", "_in_hand", "_limits", "_pull")

    def __init__(self, pull: Pull, in_hand: InHand, accounts: Accounts, limits: PullLimits, home: Home) -> None:
        self._pull = pull
        self._in_hand = in_hand
        self._accounts = accounts
        self._limits = limits
        self._home = home
        self._alone = False
        """Whether the last request was for one message."""

    def settled(self) -> bool:
        """Give back the room of settled messages; return whether it is time to ask for more."""
        self._count()
        self._accounts.decoded.use(self._in_hand.decoded_bytes)
        if not self._pull.can_ask:
            return False
        if self._pull.endings.too_small:
            return not self._pull.outstanding.requests
        return self._is_due(self._free, self._free_bytes(flowing=False))

    async def top_up(self, last: Delivery | None) -> None:
        """Ask for more when a part is free, or nothing is asked for; `last` is the last message that came just now."""
        flowing = last is not None and self._is_flowing(last)
        self._count()
        if not self._pull.can_ask:
            return
        account = self._accounts.received
        if self._pull.endings.too_small:
            if not self._pull.outstanding.requests:
                await self._ask_for_one()
            return
        account.withdraw()
        free, free_bytes = self._free, self._free_bytes(flowing=flowing)
        if self._is_due(free, free_bytes):
            if self._keeps_half:
                free, free_bytes = (free + 1) // 2, max(SMALLEST_ASK, free_bytes // 2)
            messages = min(free, free_bytes // (2 * MESSAGE))
            account.use(account.used + free_bytes)
            times = self._pull.pace.away if self._is_away else None
            await self._pull.ask(messages, free_bytes - messages * MESSAGE, times, priority=self._priority)
            self._count()

    def _is_flowing(self, last: Delivery) -> bool:
        """Tell whether messages keep coming: more are in hand than requested; else the logger is nearly idle.

        After a request for a lone message, other messages have to be pending too.
        """
        alone, self._alone = self._alone, False
        more_came = self._in_hand.whole > self._pull.outstanding.messages
        return more_came and (not alone or still_pending(last) > 0)

    @property
    def _free(self) -> int:
        return self._limits.messages - self._in_hand.whole - self._pull.outstanding.messages

    def _free_bytes(self, *, flowing: bool) -> int:
        return min(self._accounts.received.available(flowing=flowing), self._limits.request_bytes)

    def _is_due(self, free: int, free_bytes: int) -> bool:
        """Tell whether so much room is worth a request; without an outstanding one the smallest is."""
        if free <= 0 or free_bytes < SMALLEST_ASK:
            return False
        if not self._pull.outstanding.requests:
            return True
        if free < self._limits.messages // _PART:
            return False
        if free_bytes < min(self._accounts.received.guaranteed, self._limits.request_bytes) // _PART:
            return False
        return not self._waits_well

    @property
    def _priority(self) -> int:
        """The priority of a request now; a home that holds a full batch shares the logger with all replicas."""
        in_hand, limits = self._in_hand, self._limits
        is_full = in_hand.whole >= limits.batch or in_hand.memory_bytes >= limits.request_bytes
        return self._home.priority(is_full=is_full)

    @property
    def _is_away(self) -> bool:
        """Whether another replica is the home, and this one has nothing to do for the logger."""
        return not self._in_hand.whole and self._home.elsewhere

    @property
    def _keeps_half(self) -> bool:
        """Whether half of the room is kept for the moment when the logger comes here."""
        return not self._in_hand.whole and not self._home.here

    @property
    def _waits_well(self) -> bool:
        """Whether nothing is in hand, and a part of the room is asked for with the priority of now, or a better one."""
        if self._in_hand.whole or self._pull.outstanding.priority > self._priority:
            return False
        outstanding, account = self._pull.outstanding, self._accounts.received
        messages = min(self._limits.messages, account.guaranteed // (2 * MESSAGE))
        size = min(account.guaranteed, self._limits.request_bytes)
        return _PART * outstanding.messages >= messages and _PART * account.used >= size

    async def _ask_for_one(self) -> None:
        """Request a lone message that is larger than an ordinary request, if the budget has room for it now."""
        account, size = self._accounts.received, self._pull.endings.alone_bytes
        if account.reserve(size + MESSAGE):
            account.use(account.used + size + MESSAGE)
            self._alone = True
            await self._pull.ask_for_one(size, priority=self._priority)
            self._count()

    def _count(self) -> None:
        outstanding = self._pull.outstanding
        self._accounts.received.use(outstanding.bytes + outstanding.messages * MESSAGE + self._in_hand.bytes)
