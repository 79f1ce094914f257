"""A file in, the reader of its format out. The bytes tell format and compression, so any template of paths will do."""

from __future__ import annotations

import json
from itertools import chain
from typing import TYPE_CHECKING

from collector.archive.readers.csv_rows import CsvRows
from collector.archive.readers.inflating import inflated, of_the_extra
from collector.archive.readers.lines import letters_reader, raw_reader, rows_reader
from collector.archive.record import BlockKind
from collector.errors import BlockDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from collector.archive.readers import Reader
    from collector.archive.record import Record

_BRACE, _OF_A_FACT = b"{", b"_"
_PARQUET = b"PAR1"
_RAW = b'{"stream":'


def open_block(path: Path, file: BinaryIO, kind: BlockKind, kinds: Mapping[str, str]) -> Reader:
    """Return the reader of a block, which is in an open file. Raises BlockDamaged.

    `kinds` has the types of the declared columns, by their names.
    """
    if file.read(len(_PARQUET)) == _PARQUET:
        with of_the_extra("Parquet"):
            from collector.archive.readers.parquet_rows import ParquetRows  # noqa: PLC0415 - as in `inflating`
        return ParquetRows(path, kinds)
    file.seek(0)
    pieces = inflated(file)
    start = _start(pieces)
    whole = chain([start], pieces)
    if kind is BlockKind.DEAD:
        return letters_reader(whole)
    if start.startswith(_RAW):
        return raw_reader(whole)
    if not start or start.startswith(_BRACE):
        return rows_reader(whole)
    if start.startswith(_OF_A_FACT):
        return CsvRows(whole, kinds)
    raise BlockDamaged("its first bytes are those of no format: neither Parquet, nor NDJSON, CSV or raw")


def kinds_of(record: Record) -> Mapping[str, str]:
    """Return the types of the declared columns in the blocks of a cut."""
    kinds: dict[str, str] = json.loads(record.making.get("columns") or "{}")
    return kinds


def _start(pieces: Iterator[bytes]) -> bytes:
    start = b""
    while len(start) < len(_RAW) and (piece := next(pieces, b"")):
        start += piece
    return start
