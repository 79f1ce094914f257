"""Blocks of Parquet: Arrow reads them from a file, a few rows at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from arro3.core import DataType
from arro3.io import read_parquet

from collector.archive.formats.columns import FACTS
from collector.archive.readers import Archived, Places
from collector.archive.readers.columns import Lowering, raw, time_of_micros
from collector.errors import BlockDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from arro3.core import RecordBatch

_ROWS = 128
"""Rows of a batch: each of them may be as large as a message."""
_TIME = DataType.timestamp("us", tz="UTC")


class ParquetRows:
    """Reads a block of Parquet. See `Reader`."""

    def __init__(self, path: Path, kinds: Mapping[str, str]) -> None:
        """Read a file; `kinds` has the type of each declared column, as JSON and text are the same in Parquet."""
        self._path = path
        self._kinds = kinds

    def rows(self) -> Iterator[Sequence[Archived]]:
        """See `Reader`."""
        for batch in self._batches():
            names = batch.schema.names
            lowering = Lowering(names, self._kinds)
            columns = [_values(batch, name) for name in names]
            take = [columns[names.index(name)] for name in FACTS]
            yield [
                _row(facts, lowering, values)
                for facts, values in zip(zip(*take, strict=True), zip(*columns, strict=True), strict=True)
            ]

    def places(self) -> Iterator[Places]:
        """See `Reader`."""
        for batch in self._batches():
            yield _values(batch, "_seq"), _values(batch, "_pos")

    def _batches(self) -> Iterator[RecordBatch]:
        with _translated():
            reader = read_parquet(str(self._path), batch_size=_ROWS)
        names = reader.schema.names
        if missing := [name for name in FACTS if name not in names]:
            raise BlockDamaged(f"Parquet: expected the columns {', '.join(FACTS)}, and {missing[0]} is not there")
        while True:
            with _translated():
                batch = next(reader, None)
            if batch is None:
                return
            yield batch


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # how Arrow's bugs come out
            raise BlockDamaged(f"Parquet: {str(error)[:200]}") from error
        raise


def _values(batch: RecordBatch, name: str) -> list[Any]:
    column = batch.column(name)
    if column.type == _TIME:
        column = column.cast(DataType.int64())
    return list(column.to_pylist())


def _row(facts: Sequence[Any], lowering: Lowering, values: Sequence[Any]) -> Archived:
    sequence, position, time, subject, claimed, timestamp, metadata = facts
    return Archived(
        sequence=sequence,
        position=position,
        time=time_of_micros(time),
        subject=subject,
        id=claimed,
        timestamp=None if timestamp is None else time_of_micros(timestamp),
        metadata=raw(metadata),
        data=lowering.data_of(values),
    )
