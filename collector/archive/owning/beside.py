"""The sink beside an archive: it has the same messages, from the same durable, and each is acked when both have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from anyio import Event

    from collector.archive.owning.source import Source
    from collector.model import Delivery


class Beside(Protocol):
    """Another sink of a captured stream, and the gate that acks what both sinks have. It begins with `rewind`."""

    async def run(self, stopping: Event) -> None:
        """Store messages until asked to stop."""

    @property
    def unacked(self) -> int:
        """How many messages that came since the last reset are not acked."""

    def rewind(self, cursor: int, source: Source) -> None:
        """Take note that the durable was reset, and that the archive has all messages up to a cursor.

        Acks go to `source`.
        """

    async def came(self, messages: Sequence[Delivery], again: Sequence[int]) -> None:
        """Take messages that came for the first time since the reset, in order; some may be archived already.

        `again` has the sequences of archived messages that came once more since the reset.
        """

    async def archived(self, to: int) -> None:
        """Take note that the archive has all messages up to this sequence."""

    def quiet(self) -> AbstractAsyncContextManager[None]:
        """Send no ack while the block lasts, so that the count of the durable stands still."""
