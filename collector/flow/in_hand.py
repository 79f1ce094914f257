"""The deliveries that this replica has received and not yet answered: kept alive, returned, and counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from collector.flow.receipts import Slim
from collector.model import Delivery

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from collector.flow.receipts import Receipt
    from collector.flow.settlement import Answer
    from collector.model import Decoded

MESSAGE = 512
"""Bytes that a message takes in memory besides its body and headers: fields of its reply subject, and lists."""
RECEIPT = 256
"""Bytes that a receipt takes in memory: its reply subject, and its place here."""
_SLIM: Final = Slim("")
"""Stands for each delivery whose receipt alone is kept; the key is its reply subject."""


class InHand:
    """The unanswered deliveries of one logger. Each hand-over counts on its own, also of the same message."""

    __slots__ = ("_copies", "_deliveries", "_disowned", "_kept", "_owed", "bytes", "decoded_bytes", "receipts")

    def __init__(self) -> None:
        self.bytes = 0
        """Memory of the deliveries as they were received."""
        self.decoded_bytes = 0
        """Memory of the entries that were decoded from them."""
        self.receipts = 0
        """The number of deliveries whose receipt alone is kept."""
        self._deliveries: dict[str, Delivery | Slim] = {}
        self._copies: dict[str, int] = {}
        """How many hand-overs of a reply subject are not settled, besides the delivery that is kept for it."""
        self._disowned: frozenset[str] = frozenset()
        self._owed: list[Answer] = []
        self._kept: tuple[Answer, ...] = ()

    def __len__(self) -> int:
        return len(self._deliveries)

    def __contains__(self, reply: str) -> bool:
        return reply in self._deliveries

    @property
    def whole(self) -> int:
        """The number of deliveries that are kept with their bytes."""
        return len(self._deliveries) - self.receipts

    @property
    def unanswered(self) -> int:
        """The number of messages that JetStream has no answer for: in hand, or with an answer that is kept or owed."""
        return len(self._deliveries) + len(self._kept) + len(self._owed)

    @property
    def redelivered(self) -> int:
        """The number of deliveries that are not the first of their message, without those that are kept as receipts."""
        return sum([one.num_delivered > 1 for one in self._deliveries.values() if type(one) is Delivery])

    @property
    def memory_bytes(self) -> int:
        """Memory of deliveries, entries and receipts together."""
        return self.bytes + self.decoded_bytes + self.receipts * RECEIPT

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Count received deliveries, each once: a nats-server that was killed may hand over the same one again.

        A re-created durable counts from 1, so it may reuse the reply subject of a delivery that was disowned. The new
        delivery is ours, and may be answered.
        """
        held = self._deliveries
        if self._disowned:
            self._disowned -= {delivery.reply for delivery in deliveries}
        new = {delivery.reply: delivery for delivery in deliveries if delivery.reply not in held}
        held.update(new)
        self.bytes += _bytes(new.values())
        if len(new) < len(deliveries):
            self._count_copies(deliveries, new.keys())

    def _count_copies(self, deliveries: Iterable[Delivery], new: Collection[str]) -> None:
        """Count the hand-overs whose reply subject is in hand already: each of them is written and settled too."""
        copies = Counter([delivery.reply for delivery in deliveries])
        copies.subtract(new)
        for reply, more in (+copies).items():
            self._copies[reply] = self._copies.get(reply, 0) + more

    def release(self, receipts: Collection[Receipt], weight: int = 0) -> None:
        """Take out answered deliveries and the weight of their entries; deliveries that are not in hand are ignored."""
        if self._copies or self._disowned:
            self._settle_copies(receipts)
        pop = self._deliveries.pop
        answered: list[Any] = [held for receipt in receipts if (held := pop(receipt.reply, None)) is not None]
        whole = [held for held in answered if type(held) is Delivery] if self.receipts else answered
        self.receipts -= len(answered) - len(whole)
        self.bytes -= _bytes(whole)
        self.decoded_bytes -= weight

    def _settle_copies(self, receipts: Iterable[Receipt]) -> None:
        """Count the hand-overs that are left of each reply subject; a disowned one is forgotten with its last."""
        gone = set[str]()
        for reply, settled in Counter([receipt.reply for receipt in receipts]).items():
            left = self._copies.pop(reply, 0) + (reply in self._deliveries) - settled
            if left > 0:
                self._copies[reply] = left
            else:
                gone.add(reply)
        self._disowned -= gone

    def slim(self, deliveries: Iterable[Receipt]) -> None:
        """Keep only the receipts of deliveries that their sink answers later, and give their bytes back."""
        held = self._deliveries
        whole = {one.reply: one for delivery in deliveries if type(one := held.get(delivery.reply)) is Delivery}
        held.update(dict.fromkeys(whole, _SLIM))
        self.receipts += len(whole)
        self.bytes -= _bytes(whole.values())

    def count_decoded(self, decoded: Decoded) -> None:
        """Count the memory of decoded entries, until their deliveries are released."""
        self.decoded_bytes += decoded.weight

    def disown(self) -> None:
        """Let no delivery in hand, and no copy of one, be answered for good, because its stream or durable is gone.

        The answer would reach the new stream of the same name, and an ack would remove a message there that nobody has
        written. A nak is harmless: it makes JetStream deliver once more.
        """
        self._disowned = self._disowned.union(self._deliveries, self._copies)
        self._owed.clear()
        self._kept = ()

    def drop(self) -> None:
        """Forget all deliveries without an answer, because another replica owns the logger."""
        self._deliveries.clear()
        self._copies.clear()
        self._disowned = frozenset()
        self._owed.clear()
        self._kept = ()
        self.bytes = self.decoded_bytes = self.receipts = 0

    def owned(self, answers: list[Answer]) -> list[Answer]:
        """Return the answers that may be sent: those to deliveries that were not disowned."""
        if not self._disowned:
            return answers
        return [answer for answer in answers if answer[0] not in self._disowned]

    def owe(self, answers: Sequence[Answer]) -> None:
        """Keep answers that cannot be sent now; their deliveries may be released all the same."""
        self._owed += answers

    @property
    def owes(self) -> bool:
        """Whether answers are kept that could not be sent."""
        return bool(self._owed)

    def take_owed(self) -> list[Answer]:
        """Return the kept answers, and keep them no more. Stream and durable have to be known to be the same."""
        owed, self._owed = self._owed, []
        return owed

    def keep(self, answer: Answer) -> None:
        """Keep an answer that could be sent now, until a newer message is in the stream: see `Settler.settle`."""
        self._kept += (answer,)

    def take_kept(self) -> tuple[Answer, ...]:
        """Return the answers that were kept so, and keep them no more."""
        kept, self._kept = self._kept, ()
        return kept

    def all(self) -> list[Receipt]:
        """Return all deliveries or receipts in hand, the oldest first."""
        return [Slim(reply) if one is _SLIM else one for reply, one in self._deliveries.items()]

    def replies(self) -> list[str]:
        """Return all reply subjects in hand, the oldest first."""
        return list(self._deliveries)


def _bytes(deliveries: Collection[Delivery]) -> int:
    bodies = sum([len(delivery.body) + len(delivery.raw_headers) for delivery in deliveries])
    return bodies + MESSAGE * len(deliveries)
