"""The settler: the one acknowledger of a logger, for the writer and for sinks that answer later."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from anyio import move_on_after

from collector.events import Answered, Report, SettledLater
from collector.flow.settlement import ACK, settle

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.flow.in_hand import InHand
    from collector.flow.receipts import Receipt
    from collector.flow.settlement import Answer
    from collector.model import Entry, Rejected

_ANSWER_TIMEOUT = 1.0


class Answering(Protocol):
    """Sends answers to JetStream."""

    async def answer(self, answers: Sequence[Answer]) -> int:
        """Send answers in order; return how many of the last were not sent.

        No answer is sent without a connection, or while stream and durable may be others than those of the deliveries.
        """

    def answer_at_once(self, answers: Sequence[Answer]) -> int | None:
        """Do the same if nothing has to be waited for; None: nothing was sent, because `answer` has to wait."""

    def wake(self) -> None:
        """Have the owed answers sent after the next check, and have that check made now."""


class Settlement(NamedTuple):
    """The settled deliveries that are not answered."""

    unanswered: int
    """Deliveries that were disowned. They come again, if they are still there, and are found to be written."""
    owed: int
    """Deliveries whose answers are sent later, less the earlier ones of these whose answers were sent now."""


class Settler:
    """Answers JetStream for deliveries of one logger, each once, and takes them out of hand.

    It is called when the outcomes of all entries of a delivery are final: stored, kept as dead letters, or dropped.
    """

    __slots__ = ("_answering", "_in_hand", "_key", "_report")

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
        keeps_last: bool = False,
    ) -> Settlement:
        """Answer deliveries, or owe the answers until the next check of stream and durable, and take them out of hand.

        `weight` is the memory of their entries. With `keeps_last` the last ack is kept, for the next call or
        `answer_kept`: nats-server removes the file of a stream whose last message is acked, and makes a new one for the
        next message. That is more than half of its CPU time where 1,000 loggers have an entry a second each.
        """
        answers = self._in_hand.owned(settle(receipts, written, rejects))
        unanswered = len(receipts) - len(answers)
        kept = self._in_hand.take_kept()
        keeps_last = keeps_last and bool(answers) and answers[-1][1] == ACK
        if keeps_last:
            self._in_hand.keep(answers.pop())
        unsent = await self._answer([*kept, *answers])
        self._in_hand.release(receipts, weight)
        return Settlement(unanswered, unsent + keeps_last - len(kept))

    async def _answer(self, answers: Sequence[Answer]) -> int:
        """Send answers, owe those that cannot be sent, and return how many these are."""
        unsent = self._answering.answer_at_once(answers)
        if unsent is None:
            unsent = len(answers)
            # an answered delivery must not be given back too
            with move_on_after(_ANSWER_TIMEOUT, shield=True):
                unsent = await self._answering.answer(answers)
        if unsent:
            self._in_hand.owe(answers[-unsent:])
            self._answering.wake()
        return unsent

    async def settle_later(
        self, receipts: Sequence[Receipt], written: int, duplicates: int = 0, rejects: Sequence[Rejected] = ()
    ) -> None:
        """Answer deliveries whose entries the sink has meanwhile stored or kept as dead letters, and report them."""
        unanswered, owed = await self.settle(receipts, (), rejects)
        letters = Counter(reject.reason for reject in rejects)
        self._report(SettledLater(self._key, len(receipts), written, duplicates, letters, unanswered, owed))

    async def answer_kept(self) -> None:
        """Send the ack that was kept, if there is one."""
        kept = self._in_hand.take_kept()
        if kept and (sent := len(kept) - await self._answer(kept)):
            self._report(Answered(self._key, sent))

    async def answer_owed(self) -> None:
        """Send the owed answers. Stream and durable have to be known to be the same."""
        owed = self._in_hand.take_owed()
        unsent = await self._answering.answer(owed) if owed else 0
        if unsent:
            self._in_hand.owe(owed[-unsent:])
        if len(owed) > unsent:
            self._report(Answered(self._key, len(owed) - unsent))
