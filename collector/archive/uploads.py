"""Calls to a store that are made until they work, and the creation of blocks, some at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from anyio import CapacityLimiter, create_task_group, current_time, sleep

from collector.archive.told import StoredBlock, StoreFailed, nobody
from collector.errors import StoreRefused, StoreUnavailable
from collector.runtime.backoff import exponential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from collector.archive.blocks import Blocks
    from collector.archive.log import LogStore
    from collector.archive.record import Record
    from collector.archive.told import Tell

AT_ONCE = 4
"""Blocks that are created at the same time."""
_FIRST, _CAP = 0.2, 15.0
"""Seconds between two tries, the first and the longest."""
_T = TypeVar("_T")


class Patience(Protocol):
    """Makes a call to the store."""

    async def __call__(self, call: Callable[[], Awaitable[_T]], /) -> _T:
        """Return what the call returns."""


async def once(call: Callable[[], Awaitable[_T]]) -> _T:
    """Make a call once. See `Patience`."""
    return await call()


class Endless:
    """Makes a call again and again, and tells of each failure. See `Patience`."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    async def __call__(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """See `Patience`."""
        curve, attempt = exponential(_FIRST, _CAP), 0
        while True:
            try:
                return await call()
            except (StoreUnavailable, StoreRefused) as exc:
                attempt += 1
                delay = curve(attempt)
                reason = "refused" if isinstance(exc, StoreRefused) else "unavailable"
                self._tell(StoreFailed(str(exc), reason, attempt, delay))
            await sleep(delay)


class PatientStore:
    """A store whose calls are made with patience. See `LogStore`."""

    def __init__(self, store: LogStore, patience: Patience) -> None:
        self._store = store
        self._patience = patience

    async def create(self, path: str, data: bytes) -> bool:
        """See `LogStore`."""
        return await self._patience(partial(self._store.create, path, data))

    async def read(self, path: str) -> bytes:
        """See `LogStore`."""
        return await self._patience(partial(self._store.read, path))

    async def after(self, prefix: str, path: str) -> list[str]:
        """See `LogStore`."""
        return await self._patience(partial(self._store.after, prefix, path))


class Uploads:
    """Creates the blocks of cuts, and tells of each attempt."""

    def __init__(
        self,
        store: LogStore,
        patience: Patience = once,
        at_once: int | CapacityLimiter = AT_ONCE,
        tell: Tell = nobody,
    ) -> None:
        """Create so many blocks at once, or as many as a limiter lets, which several captures may share."""
        self.patient = PatientStore(store, patience)
        self._store = store
        self._patience = patience
        self._turns = CapacityLimiter(at_once) if isinstance(at_once, int) else at_once
        self._tell = tell

    async def create_all(self, record: Record, numbers: Sequence[int], blocks: Blocks) -> int:
        """Create blocks of a record, which are complete, and hold them no longer. Return their bytes."""
        sizes: list[int] = []

        async def create(number: int) -> None:
            async with self._turns:
                data = blocks.content(number)
                await self._patience(partial(self._attempt, record, number, data))
                blocks.release(number)
                sizes.append(len(data))

        async with create_task_group() as group:
            for number in numbers:
                group.start_soon(create, number)
        return sum(sizes)

    async def _attempt(self, record: Record, number: int, data: bytes) -> None:
        block, began, error = record.blocks[number], current_time(), "cancelled"
        try:
            await self._store.create(block.path, data)
            error = ""
        except (StoreUnavailable, StoreRefused) as exc:
            error = str(exc)
            raise
        finally:
            seconds = current_time() - began
            self._tell(StoredBlock(block.path, block.key, block.kind, block.rows, len(data), seconds, error))
