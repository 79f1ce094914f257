"""Finds the logs of the captures that are under one root, and reads their records. In and out: a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from collector.archive.layout import log_folder, number_in, record_path
from collector.archive.record import decode
from collector.errors import RecordDamaged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collector.archive.record import Record
    from collector.archive.stores import Store

LOGS = "_archive"
_HINTS = "_hints"
_NO_LOGS = ("probe", "_captures")


@dataclass(slots=True)
class FoundLog:
    """The names of one log in a store."""

    folder: str
    numbers: list[int] = field(default_factory=list)
    """The numbers of its records, rising."""
    hint: int = 0
    """The highest number that is known to have been there."""
    strange: list[str] = field(default_factory=list)
    """Paths of files in it that are no records."""

    async def read(self, store: Store, number: int) -> Record:
        """Return a record. Raises RecordDamaged, also when it belongs to another place, and NotThere."""
        path = record_path(self.folder, number)
        record = decode(await store.read(path), path)
        if (log_folder(record.capture, record.incarnation), record.number) != (self.folder, number):
            told = f"record {record.number} of {log_folder(record.capture, record.incarnation)}"
            raise RecordDamaged(path, f"it says that it is {told}")
        return record

    async def records(self, store: Store, first: int = 1, last: int | None = None) -> AsyncIterator[Record]:
        """Yield the records from one number to another. Raises RecordDamaged when one cannot be read, or is missing."""
        previous = None
        for number in self.numbers:
            if not first <= number <= (last or number):
                continue
            record = await self.read(store, number)
            if previous is not None and not record.follows(previous):
                raise RecordDamaged(record_path(self.folder, previous.number + 1), "it is not there, or is another one")
            yield record
            previous = record


async def find_logs(store: Store) -> list[FoundLog]:
    """Return all logs under the root, by their folders."""
    logs: dict[str, FoundLog] = {}
    hints: dict[str, int] = {}
    for path in await store.after(LOGS, ""):
        folder, _, _ = path.rpartition("/")
        name = folder.removeprefix(f"{LOGS}/")
        number = number_in(path)
        if name in _NO_LOGS:
            continue
        if name.startswith(f"{_HINTS}/"):
            hints[f"{LOGS}/{name.removeprefix(f'{_HINTS}/')}"] = number or 0
            continue
        log = logs.setdefault(folder, FoundLog(folder))
        if number is None:
            log.strange.append(path)
        else:
            log.numbers.append(number)
    for folder, number in hints.items():
        logs.setdefault(folder, FoundLog(folder)).hint = number
    return [logs[folder] for folder in sorted(logs)]
