"""The batcher and the writer of a logger, which run only while entries come: at rest a logger has neither of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from collector.actors.batcher import Batcher
from collector.actors.writer import Writer
from collector.flow.batching import BatchPolicy, HandedOn, OpenBatch
from collector.runtime.latch import Latch
from collector.runtime.mailbox import mailbox_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio import Event
    from anyio.abc import TaskGroup

    from collector.actors.moving import Storing
    from collector.runtime.mailbox import Outbox


class Downstream:
    """The mailbox of the batcher. Deliveries that are sent to it start batcher and writer, unless they run.

    Order: as sent. Loss: none. After its block the batches that are left are written, and both tasks end.
    """

    def __init__(self, moving: Storing, ending: Event, group: TaskGroup) -> None:
        """Start the tasks in a group; `ending` is set when a batch that cannot be written is to be given back."""
        self._moving = moving
        self._ending = ending
        self._group = group
        self._inbox: Outbox[HandedOn] | None = None
        self._batcher: Batcher | None = None
        self._first = 1
        """The number of the next batcher's first batch."""
        self._sent = False
        """Whether something was sent since the last `rest`."""
        self._tasks = 0
        self._none_left: Latch | None = None
        """Set when no task is left, while `written` waits for that."""

    async def send(self, item: HandedOn) -> None:
        """Hand deliveries on."""
        self._sent = True
        if self._inbox is None:
            self._inbox = self._start()
        await self._inbox.send(item)

    def rest(self) -> None:
        """End batcher and writer when nothing was sent since the last call; call it when nothing is in hand."""
        if not self._sent and self._inbox is not None and self._batcher is not None:
            self._first = self._batcher.last + 1
            self._inbox.close()
            self._inbox = self._batcher = None
        self._sent = False

    async def __aenter__(self) -> Self:
        """Begin the block in which something may be sent."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End batcher and writer when they have written what they have."""
        if self._inbox is not None:
            self._inbox.close()

    async def written(self) -> None:
        """Wait until all that was sent is written; call it after the block."""
        if self._tasks:
            self._none_left = Latch()
            await self._none_left.wait()

    def _start(self) -> Outbox[HandedOn]:
        moving, settings = self._moving, self._moving.shared.settings
        inbox, handed_on = mailbox_of(HandedOn)
        outbox, open_batches = mailbox_of(OpenBatch)
        policy = BatchPolicy(settings.batch_entries, settings.batch_bytes)
        self._batcher = Batcher(policy, handed_on, outbox, self._first)
        self._tasks += 2
        self._group.start_soon(self._run, self._batcher.run, name=f"{moving.key} batcher")
        self._group.start_soon(self._run, Writer(moving, open_batches).run, self._ending, name=f"{moving.key} writer")
        return inbox

    async def _run(self, stage: Callable[..., Awaitable[None]], *args: Event) -> None:
        try:
            await stage(*args)
        finally:
            self._tasks -= 1
            if not self._tasks and self._none_left is not None:
                self._none_left.set()
