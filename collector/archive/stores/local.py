"""A store in a folder: the blocking work is done in threads, and a folder that hangs is an outage."""

from __future__ import annotations

from functools import partial
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from anyio import CapacityLimiter, fail_after, to_thread

from collector.archive.stores.folder import Folder
from collector.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

THREADS = 8
"""Calls at once. A folder that hangs holds at most twice as many threads."""
_Result = TypeVar("_Result")


class LocalStore:
    """The objects of an archive as files of a folder. See `Store`."""

    def __init__(self, root: Path, *, patience: float, threads: int = THREADS) -> None:
        """Use a folder that is there; each call ends within `patience` seconds of its turn."""
        self.where = str(root)
        self._folder = Folder(root)
        self._patience = patience
        self._turns = CapacityLimiter(threads)
        self._limiter = CapacityLimiter(threads)
        self._at_work = BoundedSemaphore(threads)
        """Held by the threads that work, also by those that nobody waits for any more."""

    async def create(self, path: str, data: bytes) -> bool:
        """See `Store`."""
        return await self._in_thread(partial(self._folder.create, path, data), ambiguous=True)

    async def read(self, path: str) -> bytes:
        """See `Store`."""
        return await self._in_thread(partial(self._folder.read, path))

    async def copy(self, path: str, file: BinaryIO) -> None:
        """See `Store`."""
        await self._in_thread(partial(self._folder.copy, path, file))

    async def after(self, prefix: str, path: str) -> list[str]:
        """See `Store`."""
        return await self._in_thread(partial(self._folder.after, prefix, path))

    async def _in_thread(self, work: Callable[[], _Result], *, ambiguous: bool = False) -> _Result:
        """Have a thread do the work when it is its turn. After the patience the work may go on."""
        async with self._turns:
            try:
                with fail_after(self._patience, shield=True):
                    return await to_thread.run_sync(self._work, work, limiter=self._limiter, abandon_on_cancel=True)
            except TimeoutError:
                raise self._hangs(ambiguous=ambiguous) from None

    def _work(self, work: Callable[[], _Result]) -> _Result:
        if not self._at_work.acquire(blocking=False):
            raise self._hangs(ambiguous=False)
        try:
            return work()
        finally:
            self._at_work.release()

    def _hangs(self, *, ambiguous: bool) -> StoreUnavailable:
        return StoreUnavailable(
            f"expected the file system of {self.where} to answer within {self._patience:g} s, got no answer:"
            " look at the disk, or at the server of the folder",
            ambiguous=ambiguous,
        )
