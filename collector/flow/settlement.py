"""The answer to each delivery of a batch: the table of docs/design.md 4 as a pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.flow.receipts import Receipt
    from collector.model import Entry, Reason, Rejected

ACK = b"+ACK"
NAK = b"-NAK"
IN_PROGRESS = b"+WPI"
TERM = b"+TERM"

Answer = tuple[str, bytes]
"""The reply subject of a delivery, and the payload that is published to it."""


def settle(deliveries: Iterable[Receipt], written: Iterable[Entry], rejects: Sequence[Rejected]) -> list[Answer]:
    """Answer every delivery once, when all its entries are written or kept as dead letters.

    A delivery without a written entry is terminated with the reason, which shows in JetStream's advisories. A bundle
    with written entries and a bad one is acked.
    """
    if not rejects:
        return [(delivery.reply, ACK) for delivery in deliveries]
    reasons = {reject.delivery.reply: reject.reason for reject in rejects}
    for entry in written:
        reasons.pop(entry.delivery.reply, None)
    return [(delivery.reply, _answer(reasons.get(delivery.reply))) for delivery in deliveries]


def _answer(reason: Reason | None) -> bytes:
    return ACK if reason is None else TERM + b" " + reason.encode()
