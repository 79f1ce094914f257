"""The keeper: tells JetStream that what is in hand is still being worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import sleep

from collector.flow.settlement import IN_PROGRESS

if TYPE_CHECKING:
    from collector.flow.in_hand import InHand
    from collector.jetstream.link import Link


class AckExtender:
    """Sends in progress for every delivery in hand, three times in each ack wait, while there is somebody to hear it.

    To a stream that was made anew it does no harm: there a message comes again later, when its replica has died.
    """

    def __init__(self, in_hand: InHand, link: Link, ack_wait: float) -> None:
        self._in_hand = in_hand
        self._link = link
        self._ack_wait = ack_wait

    async def run(self) -> None:
        """Keep alive until cancelled. A delivery that is answered meanwhile is answered for good."""
        while True:
            await sleep(self._ack_wait / 3)
            held = self._in_hand.all()
            if held and self._link.connected:
                await self._link.answer([(delivery.reply, IN_PROGRESS) for delivery in held])
