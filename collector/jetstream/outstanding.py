"""The messages that were asked of JetStream and have not come. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple


class Asked(NamedTuple):
    """An outstanding request as it was made."""

    messages: int
    bytes: int
    number: int = 0
    early: float = -math.inf
    """The time until which its end is early: before it, the server has ended the request for another reason."""
    priority: int = 0
    """JetStream serves the lowest number first."""


@dataclass(slots=True)
class Outstanding:
    """The messages and bytes that were asked for and have not come: exact while a status ends every request."""

    messages: int = 0
    bytes: int = 0
    requests: dict[str, Asked] = field(default_factory=dict)

    @property
    def priority(self) -> float:
        """The priority of the outstanding request that is served first; infinite without one."""
        return min([asked.priority for asked in self.requests.values()], default=math.inf)

    def asked(
        self,
        request: str,
        messages: int,
        max_bytes: int,
        number: int = 0,
        early: float = -math.inf,
        *,
        priority: int = 0,
    ) -> None:
        """Count a request."""
        self.requests[request] = Asked(messages, max_bytes, number, early, priority)
        self.messages += messages
        self.bytes += max_bytes

    def came(self, messages: int, size: int) -> None:
        """Count messages that came; messages of forgotten requests (see `forget`) never make it negative."""
        self.messages = max(0, self.messages - messages)
        self.bytes = max(0, self.bytes - size)

    def ended(self, request: str, messages: int, max_bytes: int) -> None:
        """Take out the unused rest of an ended request; a forgotten request is ignored."""
        if self.requests.pop(request, None) is None:
            return
        self.messages = max(0, self.messages - messages)
        self.bytes = max(0, self.bytes - max_bytes)
        if not self.requests:
            self.messages = self.bytes = 0

    def ended_at_once(self, request: str) -> None:
        """Take out a request that the server refused, or that ended without a count of the rest."""
        if asked := self.requests.get(request):
            self.ended(request, asked.messages, asked.bytes)

    def forget(self) -> None:
        """Drop all outstanding requests."""
        self.requests.clear()
        self.messages = self.bytes = 0
