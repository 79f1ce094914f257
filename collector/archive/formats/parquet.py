"""Parquet: one schema for ever, and the types of declared columns, none of them guessed from values. Pure.

Rows are held in compressed pieces until the block is complete, and go through Arrow some thousands at a time.
The types are ours, because a guess makes a double of a number above 2**63, and a type that Spark refuses of nulls.
"""

from __future__ import annotations

from io import BytesIO
from operator import add
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import write_parquet

from collector.archive.checked import text_of, texts_of, to_json
from collector.archive.compression import Compression, Holding
from collector.archive.formats.columns import DATA, DELIVERIES, FACTS, HEADERS, REST, Kind, Lifting
from collector.archive.formats.facts import headers_of
from collector.archive.formats.parquet_file import ParquetFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from collector.archive.compression import Held, Out
    from collector.archive.formats import About
    from collector.archive.formats.columns import Column
    from collector.archive.rows import Row

ROW_GROUP = 65_536
_GROUP_BYTES = 64 * 1024 * 1024
"""Bytes of values in a row group, so that wide rows make smaller ones."""
_BATCH_ROWS, _BATCH_BYTES = 8192, 4 * 1024 * 1024
"""The most rows and bytes that go through Arrow at once."""
_ROW, _PIECE_BYTES = 600, 64 * 1024
"""Bytes that a row takes as Python objects besides its data, and bytes of rows that a block has in memory."""
_STORAGE = {
    Kind.STRING: DataType.string(),
    Kind.INT64: DataType.int64(),
    Kind.DOUBLE: DataType.float64(),
    Kind.BOOLEAN: DataType.bool(),
    Kind.TIMESTAMP: DataType.timestamp("us", tz="UTC"),
    Kind.JSON: DataType.string(),
}
_TEXT = frozenset({Kind.STRING, Kind.JSON})
_CODECS = {"none": "uncompressed", "gzip": "gzip(1)", "zstd": "zstd(1)", "snappy": "snappy"}
_FACT_KINDS = dict(
    zip(
        FACTS,
        (Kind.INT64, Kind.INT64, Kind.TIMESTAMP, Kind.STRING, Kind.STRING, Kind.TIMESTAMP, Kind.JSON),
        strict=True,
    )
)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Parquet:
    """Makes blocks of Parquet. See `Format`."""

    suffix = "parquet"

    def __init__(
        self,
        compression: Compression = Compression.ZSTD,
        columns: Sequence[Column] = (),
        *,
        headers: bool = False,
        deliveries: bool = False,
        spool: Callable[[], BinaryIO] = BytesIO,
    ) -> None:
        """Write declared columns and `_rest`, or without columns `data`. Rows are held in files of `spool`."""
        self._codec = _CODECS[compression]
        self._holding = Holding(spool)
        self._lifting = Lifting(columns) if columns else None
        self._headers = headers
        self._deliveries = deliveries
        kinds = dict(_FACT_KINDS)
        kinds |= {HEADERS: Kind.JSON} if headers else {}
        kinds |= {DELIVERIES: Kind.INT64} if deliveries else {}
        kinds |= {column.name: column.kind for column in columns}
        self.kinds = kinds | {(REST if columns else DATA): Kind.JSON}
        self.schema = Schema([Field(name, _STORAGE[kind], nullable=True) for name, kind in self.kinds.items()])

    def open(self, out: Out) -> ParquetWriter:
        """See `Format`."""
        return ParquetWriter(out, self, self._holding.open())

    def columns(self, rows: Sequence[Row]) -> list[list[Any]]:
        """Return the values of rows, a list for each column."""
        messages = [row.message for row in rows]
        columns: list[list[Any]] = [
            [message.sequence for message in messages],
            [row.position for row in rows],
            [message.published_ns // 1000 for message in messages],
            [message.subject for message in messages],
            [row.id for row in rows],
            [row.timestamp for row in rows],
            texts_of([row.metadata for row in rows]),
        ]
        if self._headers:
            columns.append([text_of(to_json(headers_of(message))) for message in messages])
        if self._deliveries:
            columns.append([message.num_delivered for message in messages])
        data = [row.data for row in rows]
        if self._lifting is None:
            columns.append(texts_of(data))
        else:
            columns += map(list, zip(*map(self._lifting.lift, data), strict=True))
        return columns

    def write_block(
        self, batches: Iterator[RecordBatch], file: ParquetFile, metadata: dict[str, str], group: int
    ) -> None:
        """Write all of a block. Errors of the file are kept by it."""
        write_parquet(
            RecordBatchReader.from_batches(self.schema, batches),
            file,  # type: ignore[arg-type]
            compression=self._codec,
            dictionary_enabled=True,
            key_value_metadata=metadata,
            max_row_group_size=group,
            skip_arrow_metadata=True,
        )


class ParquetWriter:
    """Writes one block of Parquet. See `Writer`."""

    def __init__(self, out: Out, form: Parquet, held: Held) -> None:
        self._out = out
        self._form = form
        self._held = held
        self._columns: list[list[Any]] = [[] for _ in form.kinds]
        self._size = 0
        self._whole_size = 0
        self._whole_rows = 0

    def write(self, rows: Sequence[Row]) -> None:
        """See `Writer`."""
        if not rows:
            return
        columns, start = self._form.columns(rows), 0
        sizes = map(add, map(len, [row.data for row in rows]), map(len, [row.metadata for row in rows]))
        for end, size in enumerate(sizes, 1):
            self._size += size + _ROW
            if self._size >= _PIECE_BYTES:
                self._add(columns, start, end)
                self._hold()
                start = end
        self._add(columns, start, len(rows))

    def _add(self, columns: list[list[Any]], start: int, end: int) -> None:
        for column, values in zip(self._columns, columns, strict=True):
            column.extend(values[start:end])

    def _hold(self) -> None:
        self._held.add(_encode(self._columns))
        self._whole_rows += len(self._columns[0])
        self._whole_size += self._size
        self._forget()

    def _forget(self) -> None:
        for column in self._columns:
            column.clear()
        self._size = 0

    def finish(self, about: About) -> None:
        """See `Writer`."""
        if self._size:
            self._hold()
        wide = self._whole_size // max(1, self._whole_rows) - _ROW
        group = max(1, min(ROW_GROUP, _GROUP_BYTES // max(1, wide)))
        named = {"capture": about.capture, "n": about.number, "from": about.first, "to": about.last}
        metadata = {name: str(value) for name, value in named.items()}
        file = ParquetFile(self._out, metadata)
        try:
            self._form.write_block(file.guarded(self._batches()), file, metadata, group)
        finally:
            self._held.drop()
        file.finish()

    def drop(self) -> None:
        """See `Writer`."""
        self._held.drop()
        self._forget()

    def _batches(self) -> Iterator[RecordBatch]:
        """Yield the rows that are held, in batches that depend on the rows alone."""
        columns: list[list[Any]] = [[] for _ in self._form.kinds]
        size = 0
        for piece in self._held.pieces():
            for column, values in zip(columns, _decode(piece), strict=True):
                column.extend(values)
            size += len(piece)
            if size >= _BATCH_BYTES or len(columns[0]) >= _BATCH_ROWS:
                yield self._batch(columns)
                columns = [[] for _ in columns]
                size = 0
        if columns[0]:
            yield self._batch(columns)

    def _batch(self, columns: list[list[Any]]) -> RecordBatch:
        arrays = [_array(column, kind) for column, kind in zip(columns, self._form.kinds.values(), strict=True)]
        return RecordBatch.from_arrays(arrays, schema=self._form.schema)


def _array(values: list[Any], kind: Kind) -> Array:
    if kind is Kind.TIMESTAMP:
        source = DataType.int64() if type(values[0]) is int else DataType.string()
        return Array(values, source).cast(_STORAGE[kind])
    if kind is Kind.JSON:
        return Array(values, DataType.binary()).cast(DataType.string())
    return Array(values, _STORAGE[kind])
