"""The stream and the durable of a capture, looked at before they are read. Neither is ever made or changed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from collector.archive.owning.inbox import Limits
from collector.archive.owning.source import DurableSource, ReaderSource
from collector.errors import CaptureRefused
from transfer.errors import UnknownDurable, UnknownStream
from transfer.jetstream.api import NANOSECONDS, connection_of, request
from transfer.jetstream.configurations import DurableInfo
from transfer.jetstream.durable_needs import GROUP
from transfer.jetstream.streams import stream_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nats.js import JetStreamContext

    from collector.archive.cut import CutPolicy
    from collector.archive.owning.source import Source
    from collector.jetstream.link import Link
    from transfer.jetstream.configurations import DurableConfig
    from transfer.jetstream.streams import StreamState

LEAST_ACK_WAIT = 10.0
"""Seconds. A cut is at most half as old, and its blocks have the other half to be created."""
_RESET_SINCE = (2, 14)
"""The first nats-server that resets a durable."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A stream that can be read, and how."""

    state: StreamState
    source: Source
    policy: CutPolicy
    is_whole: bool = True
    """Whether all messages of the stream are delivered: else a gap in front of the first one means nothing."""


class Attaching:
    """Looks at the stream of a capture."""

    def __init__(self, jetstream: JetStreamContext, link: Link, stream: str, durable: str, policy: CutPolicy) -> None:
        """Read through a durable, or without acks where none is named."""
        self.stream = stream
        self.durable = durable
        self._jetstream = jetstream
        self._link = link
        self._policy = policy

    async def attach(self) -> Attached:
        """Return the stream with a source for it.

        Raises CaptureRefused when somebody has to change something, and Unavailable or Refused.
        """
        try:
            state = await stream_state(self._jetstream, self.stream)
        except UnknownStream:
            raise CaptureRefused(
                f"expected a stream {self.stream}, but there is none: correct its name, or make it (nats stream ls)"
            ) from None
        if self.durable:
            return await self._attach_durable(state)
        if state.config.retention != "limits":
            raise CaptureRefused(await self._no_durable(state.config.retention))
        limits = Limits().within(self._policy.max_messages)
        return Attached(state, ReaderSource(self._jetstream, self._link, self.stream, limits), self._policy)

    async def _attach_durable(self, state: StreamState) -> Attached:
        try:
            answer = await request(self._jetstream, f"CONSUMER.INFO.{self.stream}.{self.durable}")
        except UnknownDurable:
            raise CaptureRefused(
                f"expected a durable {self.durable} of stream {self.stream}, but there is none: {await self._which()}"
            ) from None
        config = msgspec.json.decode(answer, type=DurableInfo).config
        if faults := list(self._faults(config)):
            raise CaptureRefused(f"durable {self.durable} of stream {self.stream}: {'; '.join(faults)}")
        ack_wait = config.ack_wait / NANOSECONDS
        policy = self._policy.of_durable(max_ack_pending=config.max_ack_pending, ack_wait=ack_wait)
        limits = Limits().within(policy.max_messages)
        limits = limits.within(config.max_batch, config.max_bytes, config.max_expires / NANOSECONDS)
        source = DurableSource(self._jetstream, self._link, self.stream, self.durable, limits)
        return Attached(state, source, policy, is_whole=not (config.filter_subject or config.filter_subjects))

    def _faults(self, config: DurableConfig) -> Iterator[str]:
        """Yield each thing that is not as it has to be."""
        version = connection_of(self._jetstream).connected_server_version
        if (version.major, version.minor) < _RESET_SINCE:
            yield f"expected nats-server 2.14 or newer, which can reset a durable, got {version.major}.{version.minor}"
        if config.deliver_subject:
            yield "expected a pull consumer, got a push consumer: make another durable with nats consumer add --pull"
        if config.ack_policy != "explicit":
            yield f"expected the ack policy explicit, got {config.ack_policy}: make another durable with --ack explicit"
        if config.max_deliver > 0:
            yield (
                f"expected max_deliver -1, got {config.max_deliver}, after which a message is never delivered again:"
                f" nats consumer edit {self.stream} {self.durable} --max-deliver=-1"
            )
        if config.headers_only:
            yield "expected whole messages, got headers only: nats consumer edit with --no-headers-only"
        if config.ack_wait < LEAST_ACK_WAIT * NANOSECONDS and not config.deliver_subject:
            yield (
                f"expected an ack wait of at least {LEAST_ACK_WAIT:g}s, got {config.ack_wait / NANOSECONDS:g}s:"
                f" nats consumer edit {self.stream} {self.durable} --wait=1h"
            )
        if config.priority_groups and GROUP not in config.priority_groups:
            yield f"expected no priority groups, got {', '.join(config.priority_groups)}: make another durable"

    async def _no_durable(self, retention: str) -> str:
        return (
            f"expected --durable, because stream {self.stream} has the retention {retention} and is read with acks:"
            f" {await self._which()}"
        )

    async def _which(self) -> str:
        names = msgspec.json.decode(await request(self._jetstream, f"CONSUMER.NAMES.{self.stream}"), type=_Names)
        found = ", ".join((names.consumers or [])[:5])
        add = f"nats consumer add {self.stream} archive --pull --ack explicit --deliver all --wait 1h --defaults"
        return f"it has {found}; take one that nobody else reads" if found else f"make one: {add}"


class _Names(msgspec.Struct):
    consumers: list[str] | None = None
