"""The ack extender: tells JetStream that the deliveries in hand of all loggers are still being worked on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anyio import sleep

from collector.flow.settlement import IN_PROGRESS

if TYPE_CHECKING:
    from collections.abc import Collection

    from collector.actors.upkeep import Kept
    from collector.flow.in_hand import InHand
    from collector.jetstream.link import Link


_AT_ONCE = 10_000
"""Deliveries for which in progress is sent at once; the answers for very many are spread over the time."""


class AckExtender:
    """Sends in progress for every delivery in hand, three times in each ack wait, while NATS is connected.

    The shortest ack wait of all loggers counts. In a stream that was made anew in progress is harmless: it only delays
    the next delivery of another message.
    """

    def __init__(self, loggers: Collection[Kept], link: Link, ack_wait: float) -> None:
        """Extend for these loggers, whichever they are at the time; no durable has a shorter wait than `ack_wait`."""
        self._loggers = loggers
        self._link = link
        self._ack_wait = ack_wait

    async def run(self) -> None:
        """Send until cancelled. JetStream ignores in progress for a delivery that was answered meanwhile."""
        left: list[tuple[InHand, str]] = []
        pause = self._period()
        while True:
            await sleep(pause)
            if not left:
                left = [(one.in_hand, reply) for one in self._kept_alive() for reply in one.in_hand.replies()]
                pause = self._period() / max(1, math.ceil(len(left) / _AT_ONCE))
            part, left = left[:_AT_ONCE], left[_AT_ONCE:]
            await self._extend(part)

    def _period(self) -> float:
        return min([self._ack_wait, *[one.ack_wait for one in self._kept_alive()]]) / 3

    def _kept_alive(self) -> list[Kept]:
        return [one for one in self._loggers if one.keeps_alive]

    async def _extend(self, replies: list[tuple[InHand, str]]) -> None:
        held = [(reply, IN_PROGRESS) for in_hand, reply in replies if reply in in_hand]
        if held and self._link.connected:
            await self._link.answer(held)
