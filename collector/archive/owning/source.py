"""The two ways to read a captured stream: through its durable, or without acks. Both are rule 7 of docs/archive.md."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec
from anyio import CancelScope, fail_after, lowlevel

from collector.archive.owning.inbox import Inbox, Limits
from collector.archive.reading import DurableFacts
from transfer.errors import JetStreamError, Unavailable
from transfer.jetstream.api import API_TIMEOUT, NANOSECONDS, api_prefix, connection_of, request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nats.js import JetStreamContext

    from collector.jetstream.link import Link
    from transfer.jetstream.configurations import DurableConfig

_SHORT = 9
"""The fields of a reply subject without domain and account, see `collector.flow.receipts`."""
_ACKS = 1000
"""Acks that are sent in one go. nats-server works them off meanwhile."""
_LONGEST = API_TIMEOUT + 1
"""Seconds of a request: its own deadline is shorter."""
_INACTIVE = 60.0
"""Seconds after which the server removes the consumer of a reader that is gone."""


class Source(Protocol):
    """Reads a stream, from the cursor on, until a doubt."""

    name: str
    """The consumer that the deliveries come from."""

    @property
    def inbox(self) -> Inbox:
        """The inbox since the last `rewind`."""

    async def rewind(self, cursor: int) -> None:
        """End what was read before, and begin to read behind a cursor. Raises Unavailable, or another TransferError."""

    async def facts(self) -> DurableFacts | None:
        """Return the durable's own count; None where no count is needed. Raises Unavailable."""

    def learn(self, reply: bytes) -> None:
        """Take the reply subject of a delivery as an example of all."""

    async def ack(self, sequences: Iterable[int]) -> None:
        """Ack archived messages. An ack may get lost."""

    async def close(self, *, give_back: bool) -> None:
        """End the reading; on request have messages without an ack delivered to others at once."""


class _Delivered(msgspec.Struct):
    consumer_seq: int
    stream_seq: int


class _Info(msgspec.Struct):
    delivered: _Delivered
    num_ack_pending: int


_info = msgspec.json.Decoder(_Info).decode


class _Reading:
    """The part of both ways that is the same: an inbox at the consumer."""

    def __init__(self, jetstream: JetStreamContext, link: Link, stream: str, limits: Limits) -> None:
        self.name = ""
        self._jetstream = jetstream
        self._link = link
        self._stream = stream
        self._limits = limits
        self._inbox: Inbox | None = None

    @property
    def inbox(self) -> Inbox:
        """See `Source`."""
        assert self._inbox is not None  # noqa: S101 - for the type checker
        return self._inbox

    async def _listen(self) -> None:
        """Listen at a new inbox, after the end of the old one, whose requests get nothing any more."""
        await self._stop_listening()
        subject = f"{api_prefix(self._jetstream)}.CONSUMER.MSG.NEXT.{self._stream}.{self.name}"
        self._inbox = Inbox(self._link, subject, connection_of(self._jetstream).new_inbox(), self._limits)
        await self._inbox.open()

    async def _stop_listening(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            with CancelScope(shield=True):  # it has a deadline of its own
                await inbox.close()

    async def _ask(self, call: str, payload: object = None) -> bytes:
        with fail_after(_LONGEST, shield=True):
            return await request(self._jetstream, call, payload)


class DurableSource(_Reading):
    """Reads a work queue or a stream with interest through its durable. See `Source`."""

    def __init__(self, jetstream: JetStreamContext, link: Link, stream: str, durable: str, limits: Limits) -> None:
        super().__init__(jetstream, link, stream, limits)
        self.name = durable
        self._ack_head, self._ack_tail = f"$JS.ACK.{stream}.{durable}", ".0.0.0"

    async def rewind(self, cursor: int) -> None:  # noqa: ARG002 - a durable knows what was not acked
        """See `Source`."""
        await self._listen()
        await self._ask(f"CONSUMER.RESET.{self._stream}.{self.name}")

    async def facts(self) -> DurableFacts | None:
        """See `Source`."""
        said = _info(await self._ask(f"CONSUMER.INFO.{self._stream}.{self.name}"))
        return DurableFacts(said.num_ack_pending, said.delivered.consumer_seq, said.delivered.stream_seq)

    def learn(self, reply: bytes) -> None:
        """See `Source`: where the server names domain and account, acks have them too."""
        fields = reply.decode().split(".")
        short = len(fields) == _SHORT
        self._ack_head = ".".join(fields[: 4 if short else 6])
        self._ack_tail = ".0.0.0" if short else ".0.0.0.0"

    async def ack(self, sequences: Iterable[int]) -> None:
        """See `Source`."""
        head, tail, payload = f"{self._ack_head}.1.", self._ack_tail, b"+ACK"
        answers = [(f"{head}{sequence}{tail}", payload) for sequence in sequences]
        for start in range(0, len(answers), _ACKS):
            if self._inbox is not None and self._inbox.doubt is not None:
                return  # the stream may be another one now, which has other messages with these sequences
            await self._link.answer(answers[start : start + _ACKS])
            await lowlevel.checkpoint()

    async def close(self, *, give_back: bool) -> None:
        """See `Source`."""
        await self._stop_listening()
        if give_back:
            with suppress(JetStreamError, Unavailable):
                await self._ask(f"CONSUMER.RESET.{self._stream}.{self.name}")


class ReaderSource(_Reading):
    """Reads a stream with limits without acks, by a consumer that is made anew at each doubt. See `Source`."""

    async def rewind(self, cursor: int) -> None:
        """See `Source`."""
        await self._remove()
        self.name = f"archive-{secrets.token_hex(8)}"
        await self._listen()
        config = {
            "name": self.name,
            "description": "reads for collector archive",
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": cursor + 1,
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(_INACTIVE * NANOSECONDS),
        }
        wanted = {"stream_name": self._stream, "config": config}
        await self._ask(f"CONSUMER.CREATE.{self._stream}.{self.name}", wanted)

    async def facts(self) -> DurableFacts | None:
        """See `Source`: the deliveries are without a gap, and nobody else gets any."""
        return None

    def learn(self, reply: bytes) -> None:
        """See `Source`: nothing is acked."""

    async def ack(self, sequences: Iterable[int]) -> None:
        """See `Source`: nothing is acked."""

    async def close(self, *, give_back: bool) -> None:  # noqa: ARG002 - the messages stay in the stream
        """See `Source`."""
        await self._stop_listening()
        await self._remove()

    async def _remove(self) -> None:
        name, self.name = self.name, ""
        if name:
            with suppress(JetStreamError, Unavailable):
                await self._ask(f"CONSUMER.DELETE.{self._stream}.{name}")


def limits_of(config: DurableConfig) -> Limits:
    """Return how much may be asked of a durable at once."""
    return Limits().within(config.max_batch, config.max_bytes, config.max_expires / NANOSECONDS)
