"""The proof of an archive: every record and every block is read once, and nothing is written.

Of a block no more than some hundred rows are in memory, and its bytes are in a temporary file while it is read. Of a
record its members are.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from anyio import CapacityLimiter, create_task_group, to_thread

from collector.archive.layout import record_path
from collector.archive.patient import patiently
from collector.archive.proof import findings
from collector.archive.proof.findings import Content, Finding, Kind, Tally
from collector.archive.proof.members import Compared, wanted_of
from collector.archive.readers.opening import kinds_of, open_block
from collector.errors import BlockDamaged, NotThere, RecordDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from collector.archive.finding import FoundLog
    from collector.archive.proof.members import Wanted
    from collector.archive.record import Block, Record
    from collector.archive.stores import Store

_PIECE = 1024 * 1024
AT_ONCE = 4
"""Blocks that are fetched and read at the same time."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an archive that is to be proven."""

    first: int = 1
    last: int | None = None
    """Numbers of cuts."""

    @property
    def is_all(self) -> bool:
        """Whether each record of a log is in it."""
        return self.first == 1 and self.last is None


class Prover:
    """Proves the logs of one root, one after the other."""

    def __init__(self, store: Store, found: Callable[[Finding], None], looked: Callable[[Tally], None]) -> None:
        """Tell each finding, and now and then how much was looked at."""
        self.tally = Tally()
        self._store = store
        self._tell = found
        self._looked = looked
        self._named: set[str] = set()
        self._is_certain = True
        """Whether each record that names blocks was read."""
        self._limiter = CapacityLimiter(AT_ONCE)

    async def prove(self, log: FoundLog, part: Part) -> None:
        """Prove one log and all of its blocks."""
        self.tally.captures += 1
        numbers = [number for number in log.numbers if part.first <= number <= (part.last or number)]
        self._check_numbers(log, numbers, part)
        previous: Record | None = None
        left: tuple[Record, list[int]] | None = None
        for number in numbers:
            record = await self._record(log, number)
            if record is not None:
                self._check_interval(log, record, previous)
                is_last = number == log.numbers[-1]
                missing = await self._prove_blocks(record, self._named_once(log, record), is_last=is_last)
                left = (record, missing) if is_last and missing else None
            previous = record
            self.tally.records += 1
        if left is not None:  # its owner may have created them meanwhile
            await self._prove_blocks(left[0], left[1], is_last=False, is_open=True)

    async def prove_names(self) -> None:
        """Look for files that none of the records names that were read; it comes last."""
        paths = await patiently(partial(self._store.after, "", ""))
        strange = [path for path in paths if not path.startswith("_archive/") and path not in self._named]
        if self._is_certain:
            for path in strange:
                self._find(findings.not_named(path))
        elif strange:
            many = f"{len(strange)} files that no readable record names, such as {strange[0]}"
            problem = f"expected records for all files, got {many}: bring the records back, and verify again"
            self._find(Finding(Kind.NOT_NAMED, strange[0], problem))

    def _find(self, finding: Finding) -> None:
        self.tally.findings += 1
        self._tell(finding)

    # --- records

    def _check_numbers(self, log: FoundLog, numbers: Sequence[int], part: Part) -> None:
        expected = part.first
        for number in numbers:
            if number > expected:
                self._find_missing(log, expected, number)
            expected = number + 1
        last = max(log.hint, part.last or 0) if part.last is not None else log.hint
        if expected <= last:
            self._find_missing(log, expected, last + 1)
        for path in log.strange:
            self._find(findings.not_named(path))

    def _find_missing(self, log: FoundLog, number: int, until: int) -> None:
        self._is_certain = False
        self._find(findings.record_missing(record_path(log.folder, number), number, until))

    async def _record(self, log: FoundLog, number: int) -> Record | None:
        try:
            return await patiently(partial(log.read, self._store, number))
        except RecordDamaged as damage:
            self._is_certain = False
            self._find(Finding(Kind.RECORD_DAMAGED, record_path(log.folder, number), str(damage)))
        except NotThere:  # it was listed
            self._find_missing(log, number, number + 1)
        return None

    def _check_interval(self, log: FoundLog, record: Record, previous: Record | None) -> None:
        path = record_path(log.folder, record.number)
        end = 0 if record.number == 1 else None
        if previous is not None and previous.number == record.number - 1:
            end = previous.to
        if end is not None and record.after != end:
            self._find(findings.gap(path, record, end))

    def _named_once(self, log: FoundLog, record: Record) -> list[int]:
        """Return the numbers of the blocks that no earlier record names."""
        once = []
        for number, block in enumerate(record.blocks):
            if block.path in self._named:
                self._find(findings.named_twice(block.path, record_path(log.folder, record.number)))
            else:
                once.append(number)
        self._named.update(block.path for block in record.blocks)
        return once

    # --- blocks

    async def _prove_blocks(
        self, record: Record, numbers: Sequence[int], *, is_last: bool, is_open: bool = False
    ) -> list[int]:
        """Prove blocks of a record. Return those of the last one that are not there, without telling them."""
        wanted = wanted_of(record.members, len(record.blocks))
        results: dict[int, Content | None] = {}

        async def read(number: int) -> None:
            async with self._limiter:
                results[number] = await self._content(record.blocks[number], wanted, number, kinds_of(record))
                self._count(results[number])

        for start in range(0, len(numbers), _TASKS):
            async with create_task_group() as group:
                for number in numbers[start : start + _TASKS]:
                    group.start_soon(read, number)
        missing: list[int] = []
        name = f"record {record.number}"
        for number in numbers:
            block, content = record.blocks[number], results[number]
            if content is not None:
                finding = findings.judge(block.path, block, content)
            elif is_last:
                missing.append(number)
                finding = None
            else:
                finding = findings.block_missing(block.path, name, is_open=is_open)
            if finding is not None:
                self._find(finding)
        return missing

    def _count(self, content: Content | None) -> None:
        if content is not None:
            self.tally.blocks += 1
            self.tally.rows += content.rows
            self.tally.bytes += content.size
        self._looked(self.tally)

    async def _content(
        self, block: Block, wanted: Sequence[Wanted], number: int, kinds: Mapping[str, str]
    ) -> Content | None:
        with tempfile.NamedTemporaryFile(prefix="collector-") as file:
            copy = cast("BinaryIO", file)

            async def fetch() -> None:
                copy.seek(0)
                copy.truncate()
                await self._store.copy(block.path, copy)
                copy.flush()

            try:
                await patiently(fetch)
            except NotThere:
                return None
            return await to_thread.run_sync(_read, Path(file.name), copy, block, wanted, number, kinds)


_TASKS = 1000
"""Blocks for which there is a task at the same time."""


def _read(  # noqa: PLR0917 - a thread takes no keywords
    path: Path, file: BinaryIO, block: Block, wanted: Sequence[Wanted], number: int, kinds: Mapping[str, str]
) -> Content:
    size = file.tell()
    checksum = _checksum(file)
    compared = Compared(wanted[number])
    damage = ""
    try:
        for places in open_block(path, file, block.kind, kinds).places():
            compared.take(places)
    except BlockDamaged as error:
        damage = str(error)
    others = [one for other, one in enumerate(wanted) if other != number]
    fault = "" if damage else compared.fault(others)
    return Content(size, checksum, compared.rows, damage, fault)


def _checksum(file: BinaryIO) -> bytes:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    file.seek(0)
    return digest.digest()
