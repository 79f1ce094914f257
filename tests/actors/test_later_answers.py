"""A sink that answers minutes after the write, as an archive does: receipts without bytes, and one acknowledger."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked

from collector.actors.ack_extender import AckExtender
from collector.actors.pipeline import Pipeline
from collector.events import Answered, BatchSettled, Failed, Held, Returned, SettledLater
from collector.flow.in_hand import MESSAGE, InHand
from collector.flow.receipts import Slim
from collector.settings import Settings
from collector.sinks import Target, Written
from tests.support.fakes import (
    ANOTHER_LIFE,
    ATTACHED,
    KEY,
    FakeLetters,
    FakeLink,
    FakeSource,
    Reports,
    delivery,
    settled,
)
from tests.support.keeping import Kept
from tests.support.moving import ENVIRON, shared, target
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from collector.flow.settler import Settler
    from collector.jetstream.source import Attached
    from collector.model import Entry


class BlockSink:
    """Keeps entries until their block is closed, by the test or at the end; then it answers for them."""

    def __init__(self, at_once: Collection[int] = (), *, closes: bool = True) -> None:
        self.block: list[Slim] = []
        self.closing = Event()
        self._at_once = at_once
        self._closes = closes

    def begin(self, entries: Sequence[Entry]) -> BlockWriting:
        return BlockWriting(self, entries, self._at_once)

    async def run(self, settler: Settler, ending: Event) -> None:
        """See `LaterAnswers`."""
        while not ending.is_set():
            async with create_task_group() as group:
                for event in (self.closing, ending):
                    group.start_soon(cancel_after, event, group.cancel_scope.cancel)
            await self.close_block(settler)
        if not self._closes:
            await Event().wait()

    async def close_block(self, settler: Settler) -> None:
        self.closing, block, self.block = Event(), self.block, []
        if self._closes and block:
            await settler.settle_later(block, written=len(block))


async def cancel_after(event: Event, cancel: Any) -> None:
    await event.wait()
    cancel()


class BlockWriting:
    """See `Writing`."""

    def __init__(self, sink: BlockSink, entries: Sequence[Entry], at_once: Collection[int]) -> None:
        self.written = Written()
        self._sink, self._entries, self._at_once = sink, entries, at_once

    async def attempt(self) -> None:
        """Defer all entries but those that the test wants stored at once."""
        self.written.deferred = [one for one in self._entries if one.delivery.sequence not in self._at_once]
        self.written.stored = len(self._entries) - len(self.written.deferred)
        self._sink.block += [Slim(one.delivery.reply) for one in self.written.deferred]


class Scene:
    """A pipeline into a sink that answers later."""

    def __init__(self, sink: BlockSink, source: FakeSource | None, *, keeps_alive: bool) -> None:
        self.sink, self.link, self.reports, self.stopping = sink, FakeLink(), Reports(), Event()
        self.letters, self.keeps_alive = FakeLetters(), keeps_alive
        settings = Settings.read({**ENVIRON, "COLLECTOR_BATCH_ENTRIES": "10"})
        self.of_replica = shared(self.link, self.reports, source=source, settings=settings, destinations=self)
        self.pipeline = Pipeline(LoggerSpec(KEY), self.of_replica)

    def of(self, spec: LoggerSpec) -> Scene:
        """See `Destinations`."""
        assert spec.key == KEY
        return self

    @asynccontextmanager
    async def opened(self, attached: Attached, stopping: Event) -> AsyncIterator[Target]:
        """See `Destination`."""
        del attached, stopping
        yield target(self.sink, self.letters, later=self.sink, keeps_alive=self.keeps_alive)

    async def come(self, *sequences: int, body: bytes = b"\x81\xa4data\x80") -> None:
        """Let messages come, and wait until their batches are written."""
        asked = sum(one.messages for one in self.reports.of(BatchSettled)) + len(sequences)
        self.link.deliver(*(delivery(sequence, body) for sequence in sequences))
        await self.reports.until(lambda: sum(one.messages for one in self.reports.of(BatchSettled)) >= asked)

    def answers(self, kind: bytes) -> list[int]:
        return sorted(Slim(reply).sequence for reply, answer in self.link.answers if answer == kind)


@asynccontextmanager
async def playing(
    sink: BlockSink | None = None, *, source: FakeSource | None = None, keeps_alive: bool = False
) -> AsyncIterator[Scene]:
    scene = Scene(sink or BlockSink(), source, keeps_alive=keeps_alive)
    with fail_after(60):
        async with create_task_group() as group:
            group.start_soon(scene.pipeline.run, scene.stopping)
            while not scene.link.requests:
                await scene.link.asked.wait()
            yield scene
            scene.stopping.set()
    assert scene.of_replica.budget.used == 0


async def test_what_is_deferred_is_acked_when_its_sink_says_so_and_counted_then() -> None:
    async with playing() as scene:
        await scene.come(1, 2, 3)
        assert scene.link.answers == []
        assert [one.owed for one in scene.reports.of(BatchSettled)] == [3]
        scene.sink.closing.set()
        await scene.reports.until(lambda: scene.reports.of(SettledLater))
        assert scene.answers(b"+ACK") == [1, 2, 3]
        assert scene.reports.of(SettledLater) == [SettledLater(KEY, 3, 3, 0, Counter(), 0, 0)]
        await scene.come(4)
    assert scene.answers(b"+ACK") == [1, 2, 3, 4], "the block that is open at the end is closed"
    assert scene.reports.of(Returned) == []


@pytest.mark.parametrize("same", [True, False], ids=["same", "anew"])
async def test_what_its_sink_answers_after_a_reconnect_waits_for_a_check_of_the_stream_and_for_nothing_else(
    *, same: bool
) -> None:
    source = FakeSource(ATTACHED)
    async with playing(source=source) as scene:
        await scene.come(1, 2, 3)
        await settled()
        if not same:
            source.answers = [ANOTHER_LIFE]
        scene.link.connect_again()
        scene.sink.closing.set()
        await scene.reports.until(lambda: scene.reports.of(SettledLater))
        assert scene.reports.of(SettledLater)[0].owed == 3
        if same:
            await scene.reports.until(lambda: scene.reports.of(Answered))
            assert scene.reports.of(Failed) == [], "not even for a heartbeat that does not come"
        await settled()
    assert scene.answers(b"+ACK") == ([1, 2, 3] if same else [])


async def test_what_is_deferred_takes_no_bytes_of_the_budget_and_keeps_nothing_from_coming() -> None:
    """More messages are deferred than a replica may hold with their bytes."""
    async with playing() as scene:
        most = scene.of_replica.settings.most_held
        for start in range(1, 3 * most, 10):
            await scene.come(*range(start, start + 10), body=b"\x81\xa4data\x81\xa1a\xc4\xff" + b"x" * 255)
        await settled()
        scene.of_replica.levels.tell(scene.reports)
        held = scene.reports.of(Held)[-1]
        assert len(scene.sink.block) == 3 * most
        assert held.messages == 3 * most
        (account,) = scene.of_replica.budget.decoded.accounts
        assert account.used == 0
        assert held.bytes < 3 * most * MESSAGE
    assert scene.answers(b"+ACK") == list(range(1, 3 * most + 1))


async def test_of_one_batch_some_are_answered_at_once_some_later_and_some_never_can_be_stored() -> None:
    async with playing(BlockSink(at_once=[1])) as scene:
        asked = len(scene.reports.of(BatchSettled))
        scene.link.deliver(delivery(1), delivery(2, b"\xc1"), delivery(3))
        await scene.reports.until(lambda: len(scene.reports.of(BatchSettled)) > asked)
        assert (scene.answers(b"+ACK"), scene.answers(b"+TERM malformed")) == ([1], [2])
    assert scene.answers(b"+ACK") == [1, 3]
    assert len(scene.letters.stored) == 1


async def test_a_block_that_is_not_closed_in_time_is_given_back() -> None:
    async with playing(BlockSink(closes=False)) as scene:
        await scene.come(1, 2)
        scene.stopping.set()
        await wait_all_tasks_blocked()
    assert (scene.answers(b"-NAK"), scene.answers(b"+ACK")) == ([1, 2], [])
    assert scene.reports.of(Returned) == [Returned(KEY, 2)]


@pytest.mark.parametrize("keeps_alive", [True, False])
async def test_messages_are_kept_alive_only_where_the_target_says_so(*, keeps_alive: bool) -> None:
    async with playing(keeps_alive=keeps_alive) as scene:
        await scene.come(1)
        (kept,) = scene.of_replica.kept
        assert (kept.keeps_alive, kept.ack_wait) == (keeps_alive, ATTACHED.ack_wait)
        assert kept.in_hand.replies() == [delivery(1).reply]
    assert not scene.of_replica.kept


async def test_in_progress_for_very_many_is_spread_over_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.actors.ack_extender._AT_ONCE", 10)
    in_hand, link = InHand(), FakeLink()
    in_hand.take([delivery(sequence) for sequence in range(1, 31)])
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            in_hand.release([delivery(15)])
        if len(pauses) == 5:
            await Event().wait()

    monkeypatch.setattr("collector.actors.ack_extender.sleep", pause)
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(AckExtender([Kept(in_hand, 9.0)], link, 30).run)
            await wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert pauses == [3.0, 1.0, 1.0, 1.0, 1.0]
    said = [Slim(reply).sequence for reply, answer in link.answers if answer == b"+WPI"]
    assert said == [*range(1, 15), *range(16, 31), *range(1, 11)]
