"""The feed of an archived logger: gives the messages of its one owner to its other destination too.

In: messages that the archive has received, in order. Out: the sequences of those that the destination has. The feed
holds as many messages as it has room for. Of the others it keeps the sequences, and gets them from the stream again.
"""

from __future__ import annotations

from array import array
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from anyio import create_task_group, current_time, move_on_after
from msgspec.structs import replace

from collector.actors.downstream import Downstream
from collector.actors.handing_on import HandingOn
from collector.actors.moving import Storing
from collector.decoding.codec import Codec
from collector.errors import OwnershipLost
from collector.events import Failed, Failure, LoggerState, Stage, State
from collector.flow.batch_age import LoggerAge
from collector.flow.gathering import Enough, Gathering
from collector.flow.in_hand import MESSAGE, InHand
from collector.flow.settler import Settlement, Settler
from collector.runtime.backoff import exponential
from collector.runtime.latch import Latch, Listening
from transfer.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from anyio import Event

    from collector.actors.moving import Shared
    from collector.flow.receipts import Receipt
    from collector.jetstream.source import Attached
    from collector.model import Delivery, Entry, Rejected
    from collector.sinks import Target
    from transfer.wire import LoggerSpec

_AT_ONCE = 250
"""Messages that are got from the stream again at once."""
_PART = 3
"""Messages are got again when a part as large as this one is free."""
_PATIENCE = 1.0
"""Seconds that the archive waits for room here. A destination that is away keeps it no longer, and no second time."""
_ANEW_PAUSE = 0.2
_ASK_AGAIN = exponential(0.1, 2.0)


class Stream(Protocol):
    """The messages of a stream by their sequences."""

    def get(self, sequences: Sequence[int]) -> AsyncIterator[Delivery]:
        """Yield the messages that the stream still has, in the order of the sequences. Raises Unavailable."""


class HasArchived(Protocol):
    """The gate between the archive and the feed."""

    @property
    def missing(self) -> list[int]:
        """All received sequences that the destination has not, rising."""

    async def written(self, sequences: Sequence[int]) -> int:
        """Take note that the destination has these messages; return how many are acked now."""


class TellingSettler(Settler):
    """Tells of settled deliveries in place of answering them: the archive has to have them too. See `Settler`."""

    __slots__ = ("_done",)

    def __init__(
        self, key: str, in_hand: InHand, done: Callable[[Sequence[int]], Awaitable[int]], shared: Shared
    ) -> None:
        super().__init__(key, in_hand, _NEVER, shared.report)
        self._done = done

    async def settle(
        self,
        receipts: Sequence[Receipt],
        written: Iterable[Entry] = (),
        rejects: Sequence[Rejected] = (),
        *,
        weight: int = 0,
        keeps_last: bool = False,
    ) -> Settlement:
        """See `Settler`. The acks of messages that the archive has not yet are owed."""
        del written, rejects, keeps_last
        self._in_hand.release(receipts, weight)
        acked = await self._done([receipt.sequence for receipt in receipts])
        return Settlement(0, len(receipts) - acked)


class _Never:
    """Answers nothing: the gate of the archive does."""

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """See `Answering`."""
        return len(answers)

    def answer_at_once(self, answers: Sequence[tuple[str, bytes]]) -> int:
        """See `Answering`."""
        return len(answers)

    def wake(self) -> None:
        """See `Answering`."""


_NEVER = _Never()


class Feed:
    """Stores the messages of one logger in its destination, beside the archive.

    Order: as offered. Loss: none; a message is held, or its sequence is kept, until the destination has it. When the
    destination has to be opened again, all that it has not yet is got from the stream again.
    """

    def __init__(
        self, spec: LoggerSpec, shared: Shared, attached: Attached, stream: Stream, archive: HasArchived
    ) -> None:
        """Get messages again from `stream`, and tell `archive` what the destination has."""
        self._spec = spec
        self._key = spec.key
        self._shared = shared
        self._attached = attached
        self._stream = stream
        self._archive = archive
        self._destination = shared.destinations.of(spec)
        self._changed, self._room = Latch(), Latch()
        self._held = set[int]()
        """Sequences of the messages that are here."""
        self._came: list[Delivery] = []
        """Messages that are here, and not decoded yet."""
        self._behind = array("Q")
        """Sequences of messages that are not here, in order."""
        self._storing: Storing | None = None

    # --- what the archive calls

    def rewind(self) -> None:
        """Take note that all messages without an ack are offered again; those that are here stay."""
        self._behind = array("Q")

    async def offer(self, messages: Sequence[Delivery]) -> None:
        """Take messages. The call waits a little for room; what there is no room for is got from the stream later."""
        left = [message for message in messages if message.sequence not in self._held]
        while left and not self._behind and self._storing is not None:
            fitting = self._fitting(left, self._storing)
            self._hold(left[:fitting], self._storing)
            left = left[fitting:]
            if left and not await self._has_room_soon():
                break
        self._behind.extend([message.sequence for message in left])
        if left:
            self.wake()

    def wake(self) -> None:
        """See `Wakes`."""
        self._changed.set()

    def settled(self) -> bool:
        """See `Rooms`."""
        if self._storing is not None:
            self._count(self._storing)
        self._room.set()
        return bool(self._behind) or self._storing is None

    # --- room

    def _fitting(self, messages: Sequence[Delivery], storing: Storing) -> int:
        """Return for how many of these messages there is room; with nothing in hand there is for one."""
        account, free = storing.accounts.received, self._free(storing)
        size = 0
        for number, message in enumerate(messages[: max(0, free)]):
            size += message.size + MESSAGE
            if not account.has_room(size) and (number or storing.in_hand):
                return number
        return max(0, min(free, len(messages)))

    async def _has_room_soon(self) -> bool:
        self._room = Latch()
        with move_on_after(_PATIENCE):
            await self._room.wait()
        return self._room.is_set()

    def _hold(self, messages: Sequence[Delivery], storing: Storing) -> None:
        if not messages:
            return
        self._held.update([message.sequence for message in messages])
        storing.in_hand.take(messages)
        self._came += messages
        self._count(storing)
        if storing.gathering.came(len(messages), sum([message.size for message in messages]), self._shared.clock()):
            self.wake()

    def _count(self, storing: Storing) -> None:
        storing.accounts.received.use(storing.in_hand.bytes)
        storing.accounts.decoded.use(storing.in_hand.decoded_bytes)
        storing.level.touch()

    # --- the destination

    async def run(self, stopping: Event) -> None:
        """Store what is offered until asked to stop; nothing is offered after that."""
        with self._shared.budget.expecting():
            while not stopping.is_set():
                async with self._destination.opened(self._attached, stopping) as target:
                    if target is not None:
                        await self._store(target, stopping)
                with move_on_after(_ANEW_PAUSE):
                    await stopping.wait()

    async def _store(self, target: Target, stopping: Event) -> None:
        shared, in_hand = self._shared, InHand()
        with closing(shared.budget.open(self.wake)) as accounts:
            storing = Storing(
                key=self._key,
                shared=shared,
                attached=self._attached,
                target=target,
                pull=self,
                in_hand=in_hand,
                level=shared.levels.open(self._key, in_hand),
                accounts=accounts,
                gathering=self._gathering(),
                requests=self,
                settler=TellingSettler(self._key, in_hand, self._tell, shared),
                codec=Codec(self._attached.incarnation, shared.rules_of(self._spec)),
                risks=target.risks,
            )
            self._behind = array("Q", self._archive.missing)
            self._storing = storing
            shared.report(LoggerState(self._key, State.RUNNING, target.risks))
            try:
                await self._move(storing, stopping)
            finally:
                self._storing = None
                self._held.clear()
                self._came.clear()
                storing.level.close(shared.report)
                shared.report(LoggerState(self._key, None))

    def _gathering(self) -> Gathering:
        shared = self._shared
        enough = Enough(shared.settings.batch_entries, shared.settings.batch_bytes)
        return Gathering(LoggerAge(shared.batch_age), enough, shared.clock, shared.alarms.set, self.wake)

    async def _tell(self, sequences: Sequence[int]) -> int:
        self._held.difference_update(sequences)
        return await self._archive.written(sequences)

    async def _move(self, storing: Storing, stopping: Event) -> None:
        target, group, ending = storing.target, create_task_group(), Latch()

        def end() -> None:
            ending.set()
            group.cancel_scope.deadline = current_time() + self._shared.settings.drain_timeout
            self.wake()

        try:
            async with (
                group,
                Listening((stopping, target.leaving), end),
                Listening((target.lost,), group.cancel_scope.cancel),
            ):
                downstream = Downstream(storing, ending, group)
                async with downstream:
                    await self._hand_on(HandingOn(storing, downstream, lambda: True), storing, ending)
                await downstream.written()
        finally:
            storing.in_hand.drop()
        if target.lost.is_set():
            raise OwnershipLost(self._key)

    async def _hand_on(self, handing_on: HandingOn, storing: Storing, ending: Event) -> None:
        attempt = 0
        while not ending.is_set():
            if not (self._behind and self._fits(storing)):
                with move_on_after(storing.accounts.asks_again_within):
                    await self._changed.wait()
            self._changed = Latch()
            if self._behind and not ending.is_set():
                attempt = 0 if await self._catch_up(storing) else attempt + 1
                if attempt:
                    with move_on_after(_ASK_AGAIN(attempt)):
                        await self._changed.wait()
            handing_on.look_at_age()
            handing_on.add(self._came)
            self._came = []
            await handing_on.hand_on()
            self._count(storing)

    def _fits(self, storing: Storing) -> bool:
        """Tell whether there is room for so many messages that it is worth getting them."""
        worth = _PART * self._free(storing) >= self._shared.settings.most_held
        return not storing.in_hand or (worth and storing.accounts.received.has_room(MESSAGE))

    def _free(self, storing: Storing) -> int:
        return self._shared.settings.most_held - len(storing.in_hand)

    async def _catch_up(self, storing: Storing) -> bool:
        """Get the next messages from the stream; return whether any came. One that is gone counts as written."""
        behind = self._behind
        some, got = behind[: min(_AT_ONCE, self._free(storing))], set[int]()
        try:
            async for message in self._stream.get(some):
                if behind is not self._behind or not self._fitting([message], storing):
                    return bool(got)
                got.add(message.sequence)
                del behind[: behind.index(message.sequence) + 1]
                self._hold([self._with_reply(message)], storing)
        except TransferError as exc:
            error, action = str(exc), "getting the messages again"
            self._shared.report(Failed(self._key, Stage.PULL, Failure.UNAVAILABLE, error, action))
            return False
        gone = set(some) - got
        if gone and behind is self._behind:
            self._behind = array("Q", [sequence for sequence in behind if sequence not in gone])
            await self._archive.written(sorted(gone))
        return True

    def _with_reply(self, message: Delivery) -> Delivery:
        """Give a message the reply subject by which it is told from all others in hand."""
        attached = self._attached
        head = f"$JS.ACK.{attached.stream}.{attached.durable}"
        return replace(message, reply=f"{head}.1.{message.sequence}.0.{message.published_ns}.0")
