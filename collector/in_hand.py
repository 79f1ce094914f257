"""What this replica has received and not yet answered: to be kept alive, to be returned, and to be counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collector.model import Delivery
    from collector.settlement import Answer


class InHand:
    """The unanswered deliveries of one logger. Each hand-over counts on its own, also of the same message."""

    def __init__(self) -> None:
        self.bytes = 0
        self._deliveries: dict[str, Delivery] = {}
        self._disowned = False

    def __len__(self) -> int:
        return len(self._deliveries)

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """Count what was received, once: a nats-server that was killed may hand over the same again."""
        for delivery in deliveries:
            if delivery.reply not in self._deliveries:
                self._deliveries[delivery.reply] = delivery
                self.bytes += delivery.size

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Count what was answered; what is not in hand is passed over."""
        for delivery in deliveries:
            if self._deliveries.pop(delivery.reply, None) is not None:
                self.bytes -= delivery.size

    def disown(self) -> None:
        """Have nothing in hand any more: stream or durable are gone.

        An answer would reach the ones made anew under the same names, and an ack would remove a message there that
        nobody has written.
        """
        self._disowned = True
        self._deliveries.clear()
        self.bytes = 0

    def still_held(self, answers: list[Answer]) -> list[Answer]:
        """Return the answers that may be sent: those to deliveries that were not disowned."""
        if not self._disowned:
            return answers
        return [answer for answer in answers if answer[0] in self._deliveries]

    def all(self) -> list[Delivery]:
        """Return them, the oldest first."""
        return list(self._deliveries.values())
