"""Handing on: decodes the deliveries of one logger, and sends them to its batcher as fast as the mailbox takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import lowlevel

from collector.events import Received
from collector.flow.batching import HandedOn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.actors.moving import Storing
    from collector.decoding.unpacking import Inflated
    from collector.model import Decoded, Delivery
    from collector.runtime.mailbox import Sends

_SLICE = 250
"""Messages that are decoded without a checkpoint: about a millisecond."""
_FEW = 32
"""Messages up to which a hand-over takes no time worth a turn of other tasks."""
_SLICE_BYTES = 64 * 1024
"""Inflated bytes that are decoded before the mailbox has to take them."""


class HandingOn:
    """Decodes deliveries that are in hand, and hands them on to the batcher's mailbox.

    Order: as added, but a delivery waits while the target does not admit it (a copy, for a time-series collection).
    Loss: none; a delivery stays in hand until it is settled. Raises BrokenResourceError when the batcher has ended.
    """

    __slots__ = (
        "_accounts",
        "_admission",
        "_comes_more",
        "_gathering",
        "_in_hand",
        "_leaves",
        "_max_at_once",
        "_outbox",
        "_stays",
        "_storing",
        "undecoded",
    )

    def __init__(self, storing: Storing, outbox: Sends[HandedOn], comes_more: Callable[[], bool]) -> None:
        """`comes_more` tells whether more deliveries may come by themselves."""
        self.undecoded: list[Delivery] = []
        self._storing = storing
        self._in_hand = storing.in_hand
        self._accounts = storing.accounts
        self._admission = storing.target.admission
        self._gathering = storing.gathering
        self._outbox = outbox
        self._comes_more = comes_more
        self._max_at_once = _SLICE
        """Deliveries that are decoded at once at most: few while there is little room."""
        self._leaves = False
        """Whether what is in hand and not handed on yet is old enough to leave."""
        self._stays = False
        """Whether deliveries were handed on that the batcher may keep in its open batch."""

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries that are in hand; `hand_on` sends them."""
        self.undecoded += deliveries

    def look_at_age(self) -> None:
        """Take note of all that came; what is old enough by now leaves with the next `hand_on`."""
        self._leaves |= self._gathering.taken()

    async def hand_on(self) -> None:
        """Decode and hand on the deliveries that there is room for; the others stay undecoded."""
        decoded: list[Decoded] = []
        messages = size = 0
        while inflated := self._admitted():
            del self.undecoded[: len(inflated.deliveries)]
            for one in self._storing.codec.decode_inflated(inflated, weigh=self._accounts.decoded.is_scarce):
                if one is None:
                    await lowlevel.checkpoint()
                    continue
                self._in_hand.count_decoded(one)
                decoded += self._admission.admitted(one)
            messages, size = messages + len(inflated.deliveries), size + inflated.size
            if decoded and (messages >= _SLICE or size >= _SLICE_BYTES):
                await self._send(decoded)
                decoded, messages, size = [], 0, 0
        await self._hand_on_rest([*decoded, *self._admission.released()])

    async def _hand_on_rest(self, decoded: list[Decoded]) -> None:
        """Hand on the last deliveries; all leave when they are old enough, or when nothing more can come to them."""
        ended = self._leaves or bool(self.undecoded) or not self._comes_more()
        leaves = ended or not self._gathering.waits  # else the end of an age would wake nobody for them
        if decoded or (leaves and self._stays):
            await self._send(decoded, leaves=leaves)
        if ended:
            self._gathering.left()
        self._leaves = self._leaves and bool(self.undecoded)

    def _admitted(self) -> Inflated | None:
        """Return the next inflated deliveries that the budget has room for when decoded; None without room for one."""
        account = self._accounts.decoded
        account.use(self._in_hand.decoded_bytes)
        if not self.undecoded:
            account.withdraw()
            return None
        inflated = self._storing.codec.inflated_from(self.undecoded[: self._max_at_once])
        while len(inflated.deliveries) > 1 and not account.has_room(inflated.ceiling):
            self._max_at_once = len(inflated.deliveries) // 2
            inflated = self._storing.codec.inflated_from(inflated.deliveries[: self._max_at_once])
        if len(inflated.deliveries) == 1 and not account.reserve(inflated.ceiling):
            return None
        account.withdraw()
        self._max_at_once = min(_SLICE, 2 * self._max_at_once)
        return inflated

    async def _send(self, decoded: list[Decoded], *, leaves: bool = False) -> None:
        if decoded and self._report_received(decoded) > _FEW:
            await lowlevel.checkpoint()
        self._stays = not leaves
        await self._outbox.send(HandedOn(decoded, leaves))

    def _report_received(self, decoded: list[Decoded]) -> int:
        """Report what came, and return how many messages they are."""
        deliveries = [delivery for one in decoded for delivery in one.deliveries]
        entries = sum([one.total for one in decoded])
        self._gathering.learn(len(deliveries), entries)
        self._storing.shared.report(
            Received(
                self._storing.key,
                messages=len(deliveries),
                entries=entries,
                bytes=sum([len(delivery.body) + len(delivery.raw_headers) for delivery in deliveries]),
                redelivered=sum([delivery.num_delivered > 1 for delivery in deliveries]),
            )
        )
        return len(deliveries)
