"""The lag of the loggers, as the leaders of their streams report it."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol
from zlib import crc32

import msgspec
from anyio import create_task_group

from collector.events.readings import Sampled, Waiting
from collector.jetstream.stuck import Stuck, stuck_messages
from transfer.errors import JetStreamError, TransferError, Unavailable, UnknownDurable, UnknownStream
from transfer.jetstream.durable_needs import durable_needs
from transfer.jetstream.durables import durable_info, give_up_durable
from transfer.jetstream.needs import WORK_QUEUE, compare_bucket, compare_durable, compare_stream
from transfer.jetstream.streams import StreamState, listed_streams, stream_state

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable

    from nats.js import JetStreamContext

    from collector.flow.in_hand import InHand
    from transfer.difference import Difference
    from transfer.jetstream.comparison import Need
    from transfer.jetstream.configurations import DurableInfo, StreamConfig
    from transfer.names import Names


_NEEDS = durable_needs()
_TURNS = 10
"""Readings at most until the durable of an empty stream is asked again."""
_ROUND = 50.0
"""Seconds at most until the durable of an empty stream is asked again, in a replica with few loggers."""
_ASKED_A_SECOND = 100.0
"""Durables of empty streams that are asked a second at most; with more than 5,000 loggers a round takes longer."""
_FEW = 1000
"""Messages of a stream below which only the logger's home asks the durable: it is no backlog that all share."""
_AT_ONCE = 8
"""Durables that are asked at the same time."""


class _Counts(NamedTuple):
    """The messages of a durable; None where they are not known."""

    pending: int | None = None
    ack_pending: int | None = None
    redelivered: int | None = None


_EMPTY, _UNKNOWN = _Counts(0, 0, 0), _Counts()


class Lag(Protocol):
    """Reads the lag, and brings stuck messages back. Every method raises TransferError."""

    async def sample(self, keys: Collection[str]) -> list[Sampled | Waiting]:
        """Read the lag of these loggers; `Waiting` for a logger whose durable could not be read.

        A logger whose stream has no leader now is left out: its lag is unknown.
        """

    async def bucket(self) -> tuple[Difference, ...]:
        """Return the differences of the bucket from what is needed; none when there is no bucket."""

    async def stuck(self, key: str) -> Stuck | None:
        """Read the stuck messages of a logger closely; None when it is not certain that there are any."""

    async def bring_back(self, key: str, stuck: Stuck) -> bool:
        """Have the durable made anew; return False when it is another durable than the one that was read."""


class JetStreamLag:
    """Reads the lag with one list request for 256 streams and one request for a durable, and compares both with needs.

    A stream is a work queue: an empty one has no message that waits, is unanswered or is stuck. So each reading asks
    only some of the durables of empty streams, in turn, for what hardly ever changes. A stream of a few messages needs
    no more than that when the logger's home is elsewhere: those are its lag, and its home asks the durable. It needs
    no more when all its messages are in hand here, either: then the durable knows what this replica knows.
    """

    def __init__(
        self,
        jetstream: JetStreamContext,
        names: Names,
        period: float,
        needs_of: Callable[[str], tuple[Need, ...]] = lambda _: _NEEDS,
        *,
        is_elsewhere: Callable[[str], bool] = lambda _: False,
        in_hand: Callable[[str], InHand | None] = lambda _: None,
    ) -> None:
        """`is_elsewhere` tells whether another living replica is the home of a logger.

        `in_hand` returns what this replica has in hand of a logger, and None while it does not move it.
        """
        self._jetstream = jetstream
        self._names = names
        self._compared = _Compared(names, needs_of)
        self._is_elsewhere = is_elsewhere
        self._in_hand = in_hand
        self._period = period
        self._turns, self._turn = 1, 0
        self._sampled_at = -math.inf
        self._durables: dict[str, _Known] = {}
        """The last answers of the durables."""

    async def sample(self, keys: Collection[str]) -> list[Sampled | Waiting]:
        """List the streams, and ask the durables whose turn it is."""
        states = await listed_streams(self._jetstream, self._names)
        states |= await self._unlisted([stream for key in keys if (stream := self._names.stream(key)) not in states])
        there = {key: state for key in sorted(keys) if (state := states.get(self._names.stream(key))) is not None}
        none = [key for key in keys if self._names.stream(key) not in states]
        self._take_turn(len(there))
        self._durables = {key: durable for key, durable in self._durables.items() if key in there}
        self._compared.keep(there)
        spared = {key: counts for key, state in there.items() if (counts := self._unasked(key, state)) is not None}
        asked = await self._ask([key for key in there if key not in spared or self._is_due(key)])
        self._durables |= {key: _Known(one.num_waiting, one.config.max_ack_pending) for key, one in asked.items()}
        at = time.time()
        return [
            *(Waiting(key, 0, at) for key in none),
            *(
                self._sampled(key, state, asked.get(key), spared.get(key, _UNKNOWN))
                if key in asked or (key in self._durables and key in spared)
                else Waiting(key, state.messages, at)
                for key, state in there.items()
            ),
        ]

    async def _unlisted(self, streams: Iterable[str]) -> dict[str, StreamState | None]:
        """Return the streams that are there although the list has none of them: their subjects are others."""
        found: dict[str, StreamState | None] = {}
        for stream in streams:
            with suppress(UnknownStream):
                try:
                    found[stream] = await stream_state(self._jetstream, stream)
                except Unavailable:
                    found[stream] = None
        return found

    def _take_turn(self, loggers: int) -> None:
        """Go on to the next part of the durables of empty streams; after a long pause the part is larger."""
        now = time.monotonic()
        elapsed, self._sampled_at = max(self._period, min(_ROUND, now - self._sampled_at)), now
        self._turns = max(1, min(_TURNS, int(max(_ROUND, loggers / _ASKED_A_SECOND) / elapsed)))
        self._turn = (self._turn + 1) % self._turns

    def _unasked(self, key: str, state: StreamState) -> _Counts | None:
        """Return what is known of a durable that need not be asked each time; None when it has to be asked."""
        if not state.messages:
            return _EMPTY
        if state.messages >= _FEW or state.config.retention != WORK_QUEUE:
            return None
        if self._is_elsewhere(key):
            return _UNKNOWN
        in_hand = self._in_hand(key)
        if in_hand is None or in_hand.unanswered < state.messages:
            return None
        return _Counts(0, state.messages, in_hand.redelivered)

    def _is_due(self, key: str) -> bool:
        """Tell whether it is a durable's turn, or nothing current is known of it, or nobody pulls from it."""
        known = self._durables.get(key)
        return known is None or not known.num_waiting or crc32(key.encode()) % self._turns == self._turn

    async def _ask(self, keys: Collection[str]) -> dict[str, DurableInfo]:
        """Ask these durables, a few at a time; one that is not there, or has no leader now, is left out."""
        found: dict[str, DurableInfo] = {}
        refused: list[TransferError] = []
        left = iter(keys)

        async def ask() -> None:
            for key in left:
                try:
                    found[key] = await durable_info(self._jetstream, self._names, key)
                except (UnknownDurable, UnknownStream, Unavailable):
                    self._durables.pop(key, None)
                except JetStreamError as exc:  # it concerns this durable alone
                    refused.append(exc)
                except TransferError as exc:
                    refused.append(exc)
                    return

        async with create_task_group() as group:
            for _ in range(_AT_ONCE):
                group.start_soon(ask, name="durables")
        if refused and not found:
            raise refused[0]
        return found

    async def bucket(self) -> tuple[Difference, ...]:
        """Compare the stream behind the bucket."""
        try:
            state = await stream_state(self._jetstream, self._names.bucket_stream)
        except UnknownStream:
            return ()
        return compare_bucket(state.config, self._names)

    async def stuck(self, key: str) -> Stuck | None:
        """Read the durable and then its stream: the other order would count messages that were just delivered."""
        durable = await durable_info(self._jetstream, self._names, key)
        state = await stream_state(self._jetstream, self._names.stream(key))
        messages = stuck_messages(
            delivered_sequence=durable.delivered.stream_seq,
            ack_pending=durable.num_ack_pending,
            messages=state.messages,
            last_sequence=state.last_seq,
        )
        if durable.is_push or not messages or state.config.retention != WORK_QUEUE:
            return None  # a stream of another retention may drop what it keeps when its durable goes
        return Stuck(durable.created, state.first_seq, messages)

    async def bring_back(self, key: str, stuck: Stuck) -> bool:
        """Delete the durable: the pipelines notice that at once, and one of them makes the new one."""
        self._durables.pop(key, None)
        return await give_up_durable(self._jetstream, self._names, key, stuck.durable)

    def _sampled(self, key: str, state: StreamState, durable: DurableInfo | None, counts: _Counts) -> Sampled:
        """Put a reading together; `counts` are those of a durable that was not asked."""
        differences, known = self._compared.stream(key, state.config), self._durables[key]
        if durable is not None:
            differences += self._compared.durable(key, durable)
            counts = _Counts(durable.num_pending, durable.num_ack_pending, durable.num_redelivered)
        return Sampled(
            key,
            messages=state.messages,
            bytes=state.bytes,
            oldest_age_seconds=state.oldest_age,
            pending=counts.pending,
            ack_pending=counts.ack_pending,
            ack_pending_limit=known.ack_pending_limit,
            redelivered=counts.redelivered,
            waiting_pulls=known.num_waiting,
            at=time.time(),
            ack_wait=durable.ack_wait if durable else None,
            differences=differences,
        )


class _Known(NamedTuple):
    """The numbers of a durable that hardly ever change."""

    num_waiting: int
    ack_pending_limit: int


class _Compared:
    """Remembers the differences of streams and durables: a configuration is compared again when it has changed."""

    def __init__(self, names: Names, needs_of: Callable[[str], tuple[Need, ...]]) -> None:
        self._names = names
        self._needs_of = needs_of
        self._streams: dict[str, tuple[int, tuple[Difference, ...]]] = {}
        """By logger: the hash of the configuration, which alone would take a thousand bytes, and its differences."""
        self._durables: dict[str, tuple[int, tuple[Difference, ...]]] = {}
        """The same of durables, with whether it is paused, and with the needs that it was compared with."""

    def stream(self, key: str, config: StreamConfig) -> tuple[Difference, ...]:
        known, found = self._streams.get(key), hash(msgspec.msgpack.encode(config))
        if known is None or known[0] != found:
            known = self._streams[key] = found, compare_stream(config, self._names, key)
        return known[1]

    def durable(self, key: str, info: DurableInfo) -> tuple[Difference, ...]:
        needs = self._needs_of(key)
        known, found = self._durables.get(key), hash((msgspec.msgpack.encode(info.config), info.paused, id(needs)))
        if known is None or known[0] != found:
            known = self._durables[key] = found, compare_durable(info, self._names, key, needs)
        return known[1]

    def keep(self, keys: Container[str]) -> None:
        """Forget all other loggers."""
        self._streams = {key: known for key, known in self._streams.items() if key in keys}
        self._durables = {key: known for key, known in self._durables.items() if key in keys}
