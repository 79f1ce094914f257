"""A writer that runs in front of a scripted sink."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anyio import Event, Semaphore, create_memory_object_stream, create_task_group, fail_after

from collector.actors.writer import Writer
from collector.errors import SinkUnavailable
from collector.events import (
    BatchSettled,
)
from collector.flow.batching import OpenBatch
from collector.flow.settler import Settler
from collector.settings import Settings
from collector.sinks import PassAll
from tests.support.fakes import (
    KEY,
    FakeLetters,
    FakeLink,
    FakeSink,
    Reports,
    open_batch,
)
from tests.support.moving import ENVIRON, moving, shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from anyio.abc import TaskGroup

    from collector.model import Decoded, Delivery, Entry


DOWN = SinkUnavailable("no primary")


class Woken:
    """What the writer needs of a pull: a link that answers, and to be woken."""

    def __init__(self, link: FakeLink) -> None:
        self.link = link
        self.woken = 0

    async def answer(self, answers: Sequence[tuple[str, bytes]]) -> int:
        return await self.link.answer(answers)

    def answer_at_once(self, answers: Sequence[tuple[str, bytes]]) -> int | None:
        return self.link.answer_at_once(answers)

    def wake(self) -> None:
        self.woken += 1


class Settled(PassAll):
    """An admission that notes what was settled."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[int], int]] = []
        """The sequences of each batch, and how many entries it had."""

    def settled(self, deliveries: Collection[Delivery], entries: Iterable[Entry]) -> None:
        self.batches.append(([one.sequence for one in deliveries], len(list(entries))))


class Scene:
    """A writer that runs."""

    def __init__(
        self, sink: FakeSink, letters: FakeLetters, writes: int, write_slots: int, reports: Reports | None = None
    ) -> None:
        self.sink, self.letters, self.link = sink, letters, FakeLink()
        self.reports, self.stopping = reports or Reports(), Event()
        self.write_slots = Semaphore(write_slots, fast_acquire=True)
        self._drafts = 0
        self.send, inbox = create_memory_object_stream[OpenBatch](0)
        self.group: TaskGroup
        settings = Settings.read({**ENVIRON, "COLLECTOR_WRITES": str(writes)})
        self.admission, self.pull = Settled(), Woken(self.link)
        pull: Any = self.pull
        whole = moving(
            shared(self.link, self.reports, settings=settings),
            sink=sink,
            letters=letters,
            admission=self.admission,
            write_slots=self.write_slots,
        )
        self.in_hand, self.level, self.levels = whole.in_hand, whole.level, whole.shared.levels
        self.writer = Writer(
            replace(whole, pull=pull, settler=Settler(KEY, self.in_hand, self.link, self.reports)), inbox
        )

    async def write(self, *contents: list[Decoded]) -> None:
        """Offer a draft of each, full, and have it in hand."""
        for content in contents:
            self.in_hand.take([delivery for one in content for delivery in one.deliveries])
            await self.send.send(self.open_batch(content))

    def open_batch(self, content: list[Decoded]) -> OpenBatch:
        self._drafts += 1
        return open_batch(*content, number=self._drafts)

    @property
    def answers(self) -> list[bytes]:
        return [answer for _, answer in self.link.answers]

    async def until_settled(self, batches: int) -> list[BatchSettled]:
        await self.reports.until(lambda: len(self.reports.of(BatchSettled)) == batches)
        return self.reports.of(BatchSettled)


@asynccontextmanager
async def playing(
    sink: FakeSink | None = None,
    letters: FakeLetters | None = None,
    writes: int = 2,
    write_slots: int = 9,
    reports: Reports | None = None,
) -> AsyncIterator[Scene]:
    scene = Scene(sink or FakeSink(), letters or FakeLetters(), writes, write_slots, reports)
    with fail_after(60):
        async with scene.send, create_task_group() as scene.group:
            scene.group.start_soon(scene.writer.run, scene.stopping)
            yield scene
            await scene.send.aclose()
