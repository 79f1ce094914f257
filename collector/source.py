"""The JetStream side of one logger: its stream and durable, found or made, before messages are pulled from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from collector.identity import Incarnation
from transfer.streams import ensure_durable, stream_state

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from transfer.names import Names


@dataclass(frozen=True, slots=True)
class Attached:
    """What a pipeline has to know before it pulls."""

    incarnation: Incarnation
    ack_wait: float


class Source(Protocol):
    """Where a pipeline's messages come from."""

    async def attach(self, key: str) -> Attached:
        """Make sure of stream and durable.

        Raises UnknownStream while there is no stream, DurableInUse while the durable of the Go collector is still used
        by somebody, Unavailable while JetStream does not answer.
        """


class JetStreamSource:
    """Streams and durables of one namespace."""

    def __init__(self, jetstream: JetStreamContext, names: Names, ack_wait: float) -> None:
        self._jetstream = jetstream
        self._names = names
        self._ack_wait = ack_wait

    async def attach(self, key: str) -> Attached:
        """See `Source`. A durable that is deleted is made again; a push durable without a user is replaced."""
        state = await stream_state(self._jetstream, self._names.stream(key))
        await ensure_durable(self._jetstream, self._names, key, ack_wait=self._ack_wait, replace_push=True)
        return Attached(Incarnation(self._names.stream(key), state.created), self._ack_wait)
