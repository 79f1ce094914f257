"""A connection of the sending thread whose answers a test gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import fail_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transfer.publishing import Publication


class Nats:
    """A connection whose answers a test gives: `confirm` is called for each attempt."""

    is_connected, is_closed, max_payload = True, False, 1 << 20

    def __init__(self) -> None:
        self.attempts: list[tuple[str, int, bool]] = []
        self.confirm: Callable[[Publication], Awaitable[None]] = self.yes

    async def yes(self, _: Publication) -> None:
        """Confirm."""

    async def take(self, _: object, publication: Publication, timeout: float) -> None:
        """Be `publishing.confirm`."""
        self.attempts.append((publication.key, len(publication.body), publication.sent_before))
        with fail_after(timeout):
            await self.confirm(publication)

    def done(self, key: str) -> int:
        """Return how many attempts there were for a logger."""
        return len([one for one in self.attempts if one[0] == key])
