"""The ack extender: tells JetStream that the deliveries in hand are still being worked on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anyio import sleep

from collector.flow.settlement import IN_PROGRESS

if TYPE_CHECKING:
    from collector.flow.in_hand import InHand
    from collector.jetstream.link import Link


_AT_ONCE = 10_000
"""Deliveries for which in progress is sent at once; the answers for very many are spread over the time."""


class AckExtender:
    """Sends in progress for every delivery in hand, three times in each ack wait, while NATS is connected.

    In a stream that was made anew it is harmless: it only delays the next delivery of another message.
    """

    def __init__(self, in_hand: InHand, link: Link, ack_wait: float) -> None:
        self._in_hand = in_hand
        self._link = link
        self._ack_wait = ack_wait

    async def run(self) -> None:
        """Send until cancelled. JetStream ignores in progress for a delivery that was answered meanwhile."""
        left: list[str] = []
        period = pause = self._ack_wait / 3
        while True:
            await sleep(pause)
            if not left:
                left = self._in_hand.replies()
                pause = period / max(1, math.ceil(len(left) / _AT_ONCE))
            part, left = left[:_AT_ONCE], left[_AT_ONCE:]
            await self._extend(part)

    async def _extend(self, replies: list[str]) -> None:
        held = [(reply, IN_PROGRESS) for reply in replies if reply in self._in_hand]
        if held and self._link.connected:
            await self._link.answer(held)
