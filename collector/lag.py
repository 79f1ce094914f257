"""How far behind the loggers are, as the servers that lead their streams say it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from collector.events import Sampled
from transfer.errors import Unavailable, UnknownDurable
from transfer.streams import StreamState, durable_info, stream_states

if TYPE_CHECKING:
    from collections.abc import Collection

    from nats.js import JetStreamContext

    from transfer.names import Names


class Lag(Protocol):
    """Where lag is read."""

    async def sample(self, keys: Collection[str]) -> list[Sampled]:
        """Read the lag of these loggers; one without stream or durable is left out. Raises TransferError."""


class JetStreamLag:
    """Lag by one list request for 256 streams, and one for each durable; the leaders answer."""

    def __init__(self, jetstream: JetStreamContext, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names

    async def sample(self, keys: Collection[str]) -> list[Sampled]:
        """See `Lag`."""
        states = await stream_states(self._jetstream, self._names)
        samples = [await self._sample(key, states.get(self._names.stream(key))) for key in sorted(keys)]
        return [sample for sample in samples if sample is not None]

    async def _sample(self, key: str, state: StreamState | None) -> Sampled | None:
        if state is None:
            return None
        try:
            durable = await durable_info(self._jetstream, self._names, key)
        except (UnknownDurable, Unavailable):  # without a leader it says nothing; the others' lag is known all the same
            return None
        return Sampled(
            key,
            messages=state.messages,
            bytes=state.bytes,
            oldest_age_seconds=state.oldest_age,
            pending=durable.num_pending,
            ack_pending=durable.num_ack_pending,
            ack_pending_limit=durable.config.max_ack_pending,
            redelivered=durable.num_redelivered,
            waiting_pulls=durable.num_waiting,
            at=time.time(),
        )
