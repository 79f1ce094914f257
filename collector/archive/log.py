"""The archive's log: records in a store, each created once, with the number after its predecessor's.

In and out: records, over a `Store`. Each call is one attempt. After an error of the store the same call is made again:
it never does a thing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from collector.archive.layout import hints_folder, log_folder, number_in, record_path
from collector.archive.record import decode, encode
from collector.errors import RecordDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.record import Record

HINT_EVERY = 1000
"""Records after which a hint is left, so that a new owner lists the last thousand names of a log and not all."""


class LogStore(Protocol):
    """A store as the log needs it. Every method raises the store's own errors."""

    async def create(self, path: str, data: bytes) -> bool:
        """Make a file, durably, unless there is one: then return False."""

    async def read(self, path: str) -> bytes:
        """Return the bytes of a file."""

    async def after(self, prefix: str, path: str) -> list[str]:
        """Return all paths in a folder and its folders that are greater than `path`, sorted."""


class Log:
    """The log of one capture of one incarnation of a stream."""

    def __init__(self, store: LogStore, capture: str, incarnation: str) -> None:
        self.folder = log_folder(capture, incarnation)
        self._store = store
        self._capture = capture
        self._incarnation = incarnation
        self._hints = hints_folder(capture, incarnation)
        self._known = 0
        """A record with this number was there."""

    async def last(self) -> Record | None:
        """Return the last record, or None when the log has none yet.

        Raises RecordDamaged when it cannot be read, or when records are gone that are known to have been there.
        """
        start = await self._hint() if self._known == 0 else self._known
        found = await self._numbers(self.folder, max(0, start - 1))
        if not found:
            if start:
                raise RecordDamaged(record_path(self.folder, start), "neither it nor a later one is there any more")
            return None
        self._known = found[-1]
        return await self.read(found[-1])

    async def read(self, number: int) -> Record:
        """Return a record that is there. Raises RecordDamaged when it cannot be read or belongs to another log."""
        path = record_path(self.folder, number)
        record = decode(await self._store.read(path), path)
        told = (record.number, record.capture, record.incarnation)
        if told != (number, self._capture, self._incarnation):
            raise RecordDamaged(path, f"it says that it is record {told[0]} of {told[1]} of {told[2]}")
        return record

    async def numbers(self, after: int = 0) -> list[int]:
        """Return the numbers of all records above one, rising."""
        return await self._numbers(self.folder, after)

    async def create(self, record: Record) -> bool:
        """Create a record; return False when another replica has created one with its number.

        Raises the store's error when it is not known whether the record is there: then call it again with the same
        record, and with no other one. A record that is there is ours exactly when it has our id.
        """
        path = record_path(self.folder, record.number)
        ours = await self._store.create(path, encode(record)) or (await self.read(record.number)).id == record.id
        self._known = max(self._known, record.number)
        if ours and record.number % HINT_EVERY == 0:
            await self._store.create(record_path(self._hints, record.number), b"")
        return ours

    async def _hint(self) -> int:
        hints = await self._numbers(self._hints, 0)
        return hints[-1] if hints else 0

    async def _numbers(self, folder: str, after: int) -> list[int]:
        paths = await self._store.after(folder, record_path(folder, after))
        numbers = (number_in(path) for path in paths if path.rpartition("/")[0] == folder)
        return [number for number in numbers if number is not None]


async def missing(store: LogStore, record: Record) -> Sequence[int]:
    """Return the numbers of the blocks of a record that are not there."""
    absent = []
    for number, block in enumerate(record.blocks):
        folder = block.path.rpartition("/")[0]
        if block.path not in await store.after(folder, block.path[:-1]):
            absent.append(number)
    return absent
