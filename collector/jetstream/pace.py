"""How often the server says something about requests for which no message comes. Pure.

A heartbeat costs the same for each logger. So a replica with many loggers asks for longer ones: all together they are
some hundred messages a second at most, however many loggers there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT = 2.0
"""Seconds of silence after which the server sends a heartbeat for a request, in a replica with few loggers."""
_HEARTBEATS = 100.0
"""Heartbeats a second that a replica wants to hear from all its requests together."""
LIFETIME = 60.0
"""Seconds a request lives at the server."""
_ALONE = 2.5
"""Heartbeats that a request for a lone message lives: if none comes, its bytes return to the other loggers soon."""


class Times(NamedTuple):
    """The times of one request, in seconds."""

    heartbeat: float
    lifetime: float


_AWAY = Times(heartbeat=10.0, lifetime=300.0)
"""The times of a request for a logger whose home is another replica, where few loggers are moved."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of requests, by the number of loggers that the replica moves."""

    loggers: Callable[[], int] = lambda: 1
    shortest: float = HEARTBEAT

    def of(self, lifetime: float = LIFETIME) -> Times:
        """Return the times of an ordinary request; nats-server refuses a heartbeat of more than half the lifetime."""
        return Times(min(lifetime / 2, max(self.shortest, self.loggers() / _HEARTBEATS)), lifetime)

    @property
    def away(self) -> Times:
        """The times of a request for a logger whose home is elsewhere: when the logger comes, another one is made."""
        return Times(max(_AWAY.heartbeat, self.of().heartbeat), _AWAY.lifetime)

    @property
    def alone(self) -> Times:
        """The times of a request for a lone message."""
        return Times(self.shortest, min(LIFETIME, _ALONE * self.shortest))
