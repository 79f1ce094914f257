"""How far behind the loggers are, as the servers that lead their streams say it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from collector.events import Sampled
from collector.stuck import Stuck, stuck_messages
from transfer.errors import Unavailable, UnknownDurable
from transfer.streams import (
    StreamState,
    durable_info,
    give_up_durable,
    lift_max_deliver,
    stream_state,
    stream_states,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from nats.js import JetStreamContext

    from transfer.names import Names


class Lag(Protocol):
    """Where lag is read, and what keeps it from falling is mended. Every method raises TransferError."""

    async def sample(self, keys: Collection[str]) -> list[Sampled]:
        """Read the lag of these loggers; one without stream or durable is left out."""

    async def stuck(self, key: str) -> Stuck | None:
        """Look closely whether messages of a logger are given to nobody any more; None when that is not certain."""

    async def lift_max_deliver(self, key: str) -> None:
        """Have a logger's durable deliver as often as it takes."""

    async def bring_back(self, key: str, stuck: Stuck) -> bool:
        """Have the durable made anew; return False when it is not the one any more that was looked at."""


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
            max_deliver=-1 if durable.is_push else durable.config.max_deliver,
        )

    async def stuck(self, key: str) -> Stuck | None:
        """See `Lag`. Counted to the safe side: while more is acked between two requests than is stuck, it hides."""
        durable = await durable_info(self._jetstream, self._names, key)
        state = await stream_state(self._jetstream, self._names.stream(key))
        messages = stuck_messages(
            delivered_sequence=durable.delivered.stream_seq,
            ack_pending=durable.num_ack_pending,
            messages=state.messages,
            last_sequence=state.last_seq,
        )
        return None if durable.is_push or not messages else Stuck(durable.created, state.first_seq, messages)

    async def lift_max_deliver(self, key: str) -> None:
        """See `Lag`."""
        await lift_max_deliver(self._jetstream, self._names, key)

    async def bring_back(self, key: str, stuck: Stuck) -> bool:
        """See `Lag`. It is deleted; the pipelines notice that at once, and one of them makes the new one."""
        return await give_up_durable(self._jetstream, self._names, key, stuck.durable)
