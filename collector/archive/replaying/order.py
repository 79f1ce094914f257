"""The rows of a cut in the order of the stream: its blocks are fetched into temporary files, and merged.

The number of blocks that are merged at a time is limited, by open files and memory. More of them go through files of
lines.
"""

from __future__ import annotations

import heapq
import math
import tempfile
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

import msgspec
from anyio import CapacityLimiter, create_task_group

from collector.archive.patient import patiently
from collector.archive.readers import Archived, Captured
from collector.archive.readers.lines import raw_reader, rows_reader
from collector.archive.readers.opening import kinds_of, open_block
from collector.errors import BlockDamaged, BlockUnreadable, NotThere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from collector.archive.record import Block, Record
    from collector.archive.stores import Store

_TOGETHER = 64
_AT_ONCE = 4
_LINES = 500
_PIECE = 256 * 1024
Row: TypeAlias = Archived | Captured


class Cuts:
    """Reads cuts of an archive, one after the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._limiter = CapacityLimiter(_AT_ONCE)

    async def rows(self, record: Record, blocks: Sequence[Block], stack: ExitStack) -> Iterator[Row]:
        """Return the rows of some blocks of a record in order; their files are open until the end of `stack`.

        Raises BlockUnreadable for a block that is missing; the iterator does for one that is damaged.
        """
        kinds = kinds_of(record)
        size = max(_TOGETHER, math.isqrt(len(blocks)))
        groups = [blocks[start : start + size] for start in range(0, len(blocks), size)]
        if len(groups) <= 1:
            return merged([_rows(one, file, kinds) for one, file in await self._fetched(blocks, stack)])
        parts: list[BinaryIO] = []
        for group in groups:
            part = _temporary(stack)
            with ExitStack() as inner:
                fetched = await self._fetched(group, inner)
                _write(part, merged([_rows(one, file, kinds) for one, file in fetched]))
            parts.append(part)
        return merged([_read(part) for part in parts])

    async def _fetched(self, blocks: Sequence[Block], stack: ExitStack) -> list[tuple[Block, BinaryIO]]:
        files = [_temporary(stack) for _ in blocks]

        async def fetch(block: Block, file: BinaryIO) -> None:
            async def copy() -> None:
                file.seek(0)
                file.truncate()
                await self._store.copy(block.path, file)

            async with self._limiter:
                try:
                    await patiently(copy)
                except NotThere:
                    raise BlockUnreadable(block.path, "it is not there") from None
            file.flush()
            file.seek(0)

        async with create_task_group() as group:
            for block, file in zip(blocks, files, strict=True):
                group.start_soon(fetch, block, file)
        return list(zip(blocks, files, strict=True))


def _temporary(stack: ExitStack) -> BinaryIO:
    """Return a file with a name, which is gone at the end of `stack`."""
    return cast("BinaryIO", stack.enter_context(tempfile.NamedTemporaryFile(prefix="collector-")))


def merged(parts: Sequence[Iterable[Row]]) -> Iterator[Row]:
    """Return the rows of all parts in the order of the stream; each part has that order."""
    if len(parts) == 1:
        return iter(parts[0])
    return heapq.merge(*parts, key=lambda row: (row.sequence, row.position))


def _rows(block: Block, file: BinaryIO, kinds: Mapping[str, str]) -> Iterator[Row]:
    with _named(block.path):
        reader = open_block(Path(file.name), file, block.kind, kinds)
        for rows in reader.rows():
            yield from rows


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except BlockDamaged as damage:
        raise BlockUnreadable(path, str(damage)) from damage


def _write(part: BinaryIO, rows: Iterator[Row]) -> None:
    encode = msgspec.json.Encoder().encode
    is_raw = None
    for row in rows:
        if is_raw is None:
            is_raw = isinstance(row, Captured)
            part.write(b"r" if is_raw else b"a")
        part.write(encode(row))
        part.write(b"\n")
    part.seek(0)


def _read(part: BinaryIO) -> Iterator[Row]:
    kind = part.read(1)
    pieces = iter(lambda: part.read(_PIECE), b"")
    if kind == b"r":
        return chain.from_iterable(raw_reader(pieces).rows())
    return chain.from_iterable(rows_reader(pieces).rows())
