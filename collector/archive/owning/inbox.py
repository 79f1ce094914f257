"""The pull requests of one consumer over one connection, and the deliveries that came for them, in order.

In: frames. Out: lists of deliveries for `read_slice`, and a doubt when some may have got lost on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import nats.errors
from anyio import current_time

from collector.archive.reading import Doubt
from collector.jetstream.asking import pull_request
from collector.jetstream.endings import LARGEST
from collector.jetstream.messages import PullStatus, read_status, unused
from collector.jetstream.outstanding import Outstanding
from collector.runtime.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.jetstream.link import Link, Subscribed
    from collector.jetstream.parser import AnyFrame

_HEARTBEAT = 5.0
_SILENT = 2.5 * _HEARTBEAT
_ENDED = frozenset(
    {PullStatus.REQUEST_DONE, PullStatus.REQUEST_EXPIRED, PullStatus.MESSAGE_TOO_LARGE, PullStatus.NO_MESSAGES}
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The size of a request at most: by ours, and by the consumer's configuration."""

    messages: int = 2000
    bytes: int = 4 << 20
    lifetime: float = 30.0

    def within(self, max_batch: int, max_bytes: int = 0, max_expires: float = 0.0) -> Limits:
        """Return limits that are within these as well; 0 is none."""
        return Limits(
            min(self.messages, max_batch) if max_batch > 0 else self.messages,
            min(self.bytes, max_bytes) if max_bytes > 0 else self.bytes,
            min(self.lifetime, max_expires) if max_expires > 0 else self.lifetime,
        )


class Inbox:
    """An inbox that nobody else uses. Nothing comes before `ask`."""

    def __init__(self, link: Link, next_subject: str, subject: str, limits: Limits) -> None:
        """Ask at `next_subject`, and have the deliveries come to `subject`."""
        self.changed = Latch()
        self._link = link
        self._next = next_subject
        self._subject = subject
        self._limits = limits
        self._life = link.life
        self._outstanding = Outstanding()
        self._came: list[AnyFrame] = []
        self._heard = current_time()
        self._number = 0
        self._is_large = False
        """Whether the next message is larger than an ordinary request."""
        self._doubt: Doubt | None = None
        self._subscribed: Subscribed | None = None

    async def open(self) -> None:
        """Subscribe. Raises Unavailable."""
        self._subscribed = await self._link.subscribe(f"{self._subject}.*", self._receive)

    async def close(self) -> None:
        """End the subscription: the server is told before this returns, or does not answer."""
        subscribed, self._subscribed = self._subscribed, None
        if subscribed is not None:
            await subscribed.drain()

    async def ask(self) -> None:
        """Ask for more messages when few are outstanding. `changed` is set by what happens from now on."""
        if not self._came:
            self.changed = Latch()
        limits, left = self._limits, self._outstanding.messages
        if left > limits.messages // 2 or (self._is_large and left) or not self._link.connected:
            return
        if not self._outstanding.requests:
            self._heard = current_time()
        self._number += 1
        request = f"{self._subject}.{self._number}"
        messages, size = (1, LARGEST) if self._is_large else (limits.messages, limits.bytes)
        self._outstanding.asked(request, messages, size)
        heartbeat = min(_HEARTBEAT, limits.lifetime / 2)
        wanted = pull_request(messages, size, limits.lifetime, heartbeat, 0)
        try:
            await self._link.publish(self._next, wanted, request)
        except (nats.errors.Error, OSError):
            self._doubt = Doubt.RECONNECT

    def take(self, at_most: int) -> list[AnyFrame]:
        """Return the first deliveries that have come, and renew `changed`."""
        came, self._came = self._came[:at_most], self._came[at_most:]
        self.changed = Latch()
        return came

    @property
    def has_come(self) -> bool:
        """Whether there are deliveries to be taken."""
        return bool(self._came)

    @property
    def doubt(self) -> Doubt | None:
        """Why deliveries may be lost, if they may be."""
        if self._link.life != self._life or not self._link.connected:
            return Doubt.RECONNECT
        if self._outstanding.requests and current_time() > self.silent_at:
            return Doubt.SILENCE
        return self._doubt

    @property
    def silent_at(self) -> float:
        """When silence becomes a doubt, while a request is outstanding."""
        return self._heard + _SILENT

    def _receive(self, frames: Sequence[AnyFrame]) -> None:
        self._heard = current_time()
        statuses = [frame for frame in frames if not frame[1]]
        came = [frame for frame in frames if frame[1]] if statuses else frames
        if came:
            self._came += came
            self._outstanding.came(len(came), 0)
            self._is_large = False
            self.changed.set()
        for subject, _, raw_headers, _ in statuses:
            self._handle(subject.decode(errors="replace"), raw_headers)

    def _handle(self, request: str, raw_headers: bytes) -> None:
        status, _ = read_status(raw_headers)
        if status is PullStatus.HEARTBEAT:
            return
        self.changed.set()
        asked = self._outstanding.requests.get(request)
        if status in _ENDED:
            rest = unused(raw_headers)
            self._outstanding.ended(request, *rest)
            whole = asked is not None and rest[0] >= asked.messages
            self._is_large |= status is PullStatus.MESSAGE_TOO_LARGE and whole
        elif asked is not None:
            self._outstanding.ended_at_once(request)
            self._doubt = Doubt.REFUSED
