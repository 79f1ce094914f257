"""The log of an archive against its blocks: the records follow each other, and name every block once. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from collector.archive.layout import number_in
from collector.archive.record import decode
from collector.errors import RecordDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from collector.archive.record import Block, Record
    from tests.chaos.archive.found import Found

_NO_LOG = ("_archive/_", "_archive/probe/")
"""Folders of hints and of names, and that of the probe."""


def faults_of(files: Mapping[str, bytes], blocks: Mapping[str, Sequence[Found]]) -> Iterator[tuple[str, str]]:
    """Yield the path and the fault of every file of a log, and of every block, that contradicts the others."""
    named: dict[str, tuple[Record, Block]] = {}
    for folder, paths in _logs(files).items():
        last: Record | None = None
        for path in paths:
            try:
                record = decode(files[path], path)
            except RecordDamaged as exc:
                yield path, str(exc)
                continue
            if record.number != number_in(path) or not record.follows(last):
                yield path, f"record {record.number} of ({record.after}, {record.to}] is behind {_interval(last)}"
            last = record
            for block in record.blocks:
                if block.path in named:
                    yield block.path, f"two records of {folder} and {path} name it"
                named[block.path] = (record, block)
    for path in named.keys() - blocks.keys():
        yield path, "a record names it, and it is not there"
    for path, rows in blocks.items():
        yield from _faults_of_block(path, rows, named.get(path))


def _logs(files: Mapping[str, bytes]) -> Mapping[str, Sequence[str]]:
    logs: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(files):
        if not path.startswith(_NO_LOG):
            logs[path.rpartition("/")[0]].append(path)
    return logs


def _faults_of_block(path: str, rows: Sequence[Found], plan: tuple[Record, Block] | None) -> Iterator[tuple[str, str]]:
    if plan is None:
        yield path, "no record names it"
        return
    record, block = plan
    if block.rows != len(rows):
        yield path, f"it has {len(rows)} rows, and its record says {block.rows}"
    sequences = [row.sequence for row in rows]
    if sequences != sorted(sequences):
        yield path, "its rows are not in the order of the stream"
    if sequences and not record.after < min(sequences) <= max(sequences) <= record.to:
        yield path, f"rows of {min(sequences)} to {max(sequences)} in the interval ({record.after}, {record.to}]"


def _interval(record: Record | None) -> str:
    return "no record" if record is None else f"record {record.number} of ({record.after}, {record.to}]"
