"""Beats: the small messages by which the replicas of a namespace know of each other, without JetStream and MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from transfer.jetstream.permissions import missing_permission

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.jetstream.connection import NatsConnection
    from collector.jetstream.link import Subscribed
    from collector.jetstream.parser import AnyFrame


class Beat(msgspec.Struct, frozen=True, omit_defaults=True):
    """A replica lives, or is about to end."""

    replica: str
    leaves: bool = False


class Beats(Protocol):
    """The beats of all replicas of a namespace."""

    @property
    def connected(self) -> bool:
        """Whether a beat would reach the server."""

    @property
    def refused(self) -> str:
        """The missing permission to send or hear beats, as a sentence; empty when none is known to be missing."""

    async def listen(self, hear: Callable[[Beat], None]) -> Subscribed:
        """Have `hear` called with each beat, the own ones too; it must not block or raise. Raises `Unavailable`."""

    async def send(self, beat: Beat) -> None:
        """Send a beat to all replicas; nobody confirms it."""


class NatsBeats:
    """Beats on a subject of core NATS. See `Beats`."""

    def __init__(self, nats: NatsConnection, subject: str) -> None:
        self._nats = nats
        self._subject = subject

    @property
    def connected(self) -> bool:
        """See `Beats`."""
        return self._nats.link.connected

    @property
    def refused(self) -> str:
        """See `Beats`."""
        missing = missing_permission(str(getattr(self._nats.connection, "last_refusal", None) or ""))
        return str(missing) if missing is not None and missing.subject == self._subject else ""

    async def listen(self, hear: Callable[[Beat], None]) -> Subscribed:
        """See `Beats`."""

        def receive(frames: Sequence[AnyFrame]) -> None:
            for frame in frames:
                if (beat := read_beat(frame[3])) is not None:
                    hear(beat)

        return await self._nats.link.subscribe(self._subject, receive)

    async def send(self, beat: Beat) -> None:
        """See `Beats`."""
        await self._nats.link.publish(self._subject, msgspec.json.encode(beat), "")


def read_beat(body: bytes) -> Beat | None:
    """Return a beat; None for anything else, because anybody may publish."""
    try:
        beat = msgspec.json.decode(body, type=Beat)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return beat if 0 < len(beat.replica) <= _LONGEST else None


_LONGEST = 256
"""Characters of the name of a replica at most."""
