"""The settler: the one acknowledger of a logger, for the writer and for sinks that answer later."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from anyio import CancelScope, move_on_after

from collector.events import Answered, Report, SettledLater
from collector.flow.settlement import settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.flow.in_hand import InHand
    from collector.flow.receipts import Receipt
    from collector.flow.settlement import Answer
    from collector.model import Entry, Rejected

_ANSWER_TIMEOUT = 1.0


class Answering(Protocol):
    """Where the answers to JetStream go."""

    async def answer(self, answers: Sequence[Answer]) -> int:
        """Send them in order; return how many of the last were not sent.

        None is sent without a connection, and while stream and durable may be others than those of the deliveries.
        """


class Settlement(NamedTuple):
    """How many of the deliveries that were settled are not answered."""

    unanswered: int
    """They are not ours to answer any more. Those that are there come again and are found to be written."""
    owed: int
    """They are answered when stream and durable were looked at."""


class Settler:
    """Answers JetStream for deliveries of one logger, each once, and lets go of them.

    It is called when all entries of a delivery have a fate for good: stored, kept as dead letters, or dropped.
    """

    def __init__(self, key: str, in_hand: InHand, answering: Answering, report: Report) -> None:
        self._key = key
        self._in_hand = in_hand
        self._answering = answering
        self._report = report

    async def settle(
        self,
        receipts: Sequence[Receipt],
        written: Iterable[Entry] = (),
        rejects: Sequence[Rejected] = (),
        *,
        weight: int = 0,
    ) -> Settlement:
        """Answer deliveries, or owe the answers until stream and durable are looked at; then let go of them.

        `weight` is what their entries took in memory.
        """
        answers = self._in_hand.owned(settle(receipts, written, rejects))
        unsent = len(answers)
        with CancelScope(shield=True), move_on_after(_ANSWER_TIMEOUT):  # what is answered is not given back besides
            unsent = await self._answering.answer(answers)
        if unsent:
            self._in_hand.owe(answers[-unsent:])
        self._in_hand.release(receipts, weight)
        return Settlement(len(receipts) - len(answers), unsent)

    async def settle_later(
        self, receipts: Sequence[Receipt], written: int, duplicates: int = 0, rejects: Sequence[Rejected] = ()
    ) -> None:
        """Answer deliveries whose entries the sink has stored since, or kept as dead letters; report the numbers."""
        unanswered, owed = await self.settle(receipts, (), rejects)
        letters = Counter(reject.reason for reject in rejects)
        self._report(SettledLater(self._key, len(receipts), written, duplicates, letters, unanswered, owed))

    async def answer_owed(self) -> None:
        """Answer what could not be answered when it was settled. Stream and durable have to be known as the same."""
        owed = self._in_hand.take_owed()
        unsent = await self._answering.answer(owed) if owed else 0
        if unsent:
            self._in_hand.owe(owed[-unsent:])
        if len(owed) > unsent:
            self._report(Answered(self._key, len(owed) - unsent))
