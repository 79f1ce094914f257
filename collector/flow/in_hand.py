"""What this replica has received and not yet answered: to be kept alive, to be returned, and to be counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from collector.flow.settlement import Answer
    from collector.model import Decoded, Delivery

MESSAGE = 512
"""Bytes that a message takes in memory besides its body and headers: what is read from its reply subject, and lists."""


class InHand:
    """The unanswered deliveries of one logger. Each hand-over counts on its own, also of the same message."""

    def __init__(self) -> None:
        self.bytes = 0
        """What they take in memory as they came."""
        self.decoded_bytes = 0
        """What their entries take, of those that are opened."""
        self._deliveries: dict[str, Delivery] = {}
        self._disowned: set[str] = set()
        self._owed: list[Answer] = []

    def __len__(self) -> int:
        return len(self._deliveries)

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Count what was received, once: a nats-server that was killed may hand over the same again.

        So may a durable that was made anew and counts from 1: what was disowned may be answered again then.
        """
        held = self._deliveries
        if self._disowned:
            self._disowned.difference_update([delivery.reply for delivery in deliveries])
        new = {delivery.reply: delivery for delivery in deliveries if delivery.reply not in held}
        held.update(new)
        self.bytes += _bytes(new.values())

    def release(self, deliveries: Iterable[Delivery], weight: int = 0) -> None:
        """Count what was answered, and what its entries took; what is not in hand is passed over."""
        pop = self._deliveries.pop
        answered = [delivery for delivery in deliveries if pop(delivery.reply, None) is not None]
        self.bytes -= _bytes(answered)
        self.decoded_bytes -= weight
        if self._disowned:
            self._disowned.difference_update([delivery.reply for delivery in answered])

    def count_decoded(self, decoded: Decoded) -> None:
        """Count what the entries of deliveries take, until they are released."""
        self.decoded_bytes += decoded.weight

    def disown(self) -> None:
        """Have nothing of what is in hand answered for good: its stream or durable is gone.

        The answer would reach what was made anew under the same name, and an ack removes a message there that nobody
        has written. Giving back is harmless: it makes JetStream deliver once more.
        """
        self._disowned.update(self._deliveries)
        self._owed.clear()

    def drop(self) -> None:
        """Forget all without an answer: it is another replica's."""
        self._deliveries.clear()
        self._disowned.clear()
        self._owed.clear()
        self.bytes = self.decoded_bytes = 0

    def owned(self, answers: list[Answer]) -> list[Answer]:
        """Return the answers that may be sent."""
        if not self._disowned:
            return answers
        return [answer for answer in answers if answer[0] not in self._disowned]

    def owe(self, answers: Sequence[Answer]) -> None:
        """Keep answers that there is nobody to send to, of what may be released all the same."""
        self._owed += answers

    @property
    def owes(self) -> bool:
        """Whether there are such answers."""
        return bool(self._owed)

    def take_owed(self) -> list[Answer]:
        """Return them, and owe them no more; it has to be known that stream and durable are the same."""
        owed, self._owed = self._owed, []
        return owed

    def all(self) -> list[Delivery]:
        """Return them, the oldest first."""
        return list(self._deliveries.values())


def _bytes(deliveries: Collection[Delivery]) -> int:
    bodies = sum([len(delivery.body) + len(delivery.raw_headers) for delivery in deliveries])
    return bodies + MESSAGE * len(deliveries)
