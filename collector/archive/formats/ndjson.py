"""NDJSON: one JSON object a row. Where an entry came from stands first, and its data stays as it was encoded. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from collector.archive.formats.facts import headers_of
from collector.archive.times import time_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from collector.archive.compression import Compressed, Out, Packing
    from collector.archive.formats import About
    from collector.archive.rows import Row

_encode_lines = msgspec.json.Encoder().encode_lines
_NAMES = {"seq": "_seq", "pos": "_pos", "time": "_time", "subject": "_subject", "id": "_id"}
_ON_REQUEST = {"headers": "_headers", "deliveries": "_deliveries"}


class _Line(msgspec.Struct, gc=False, rename=_NAMES | _ON_REQUEST):
    seq: int
    pos: int
    time: str
    subject: str
    id: str | None
    timestamp: str | None
    metadata: msgspec.Raw
    data: msgspec.Raw
    headers: Any = msgspec.UNSET
    deliveries: Any = msgspec.UNSET


class Ndjson:
    """Makes blocks of NDJSON. See `Format`."""

    def __init__(self, packing: Packing, *, headers: bool = False, deliveries: bool = False) -> None:
        """Write rows, on request with the message's headers and how often it was delivered."""
        self.suffix = f"ndjson{packing.suffix}"
        self._packing = packing
        self._headers = headers
        self._deliveries = deliveries

    def open(self, out: Out) -> NdjsonWriter:
        """See `Format`."""
        return NdjsonWriter(self._packing.open(out), self._lines)

    def _lines(self, rows: Sequence[Row]) -> list[_Line]:
        times = time_texts([row.message.published_ns for row in rows])
        lines = [
            _Line(
                (message := row.message).sequence,
                row.position,
                time,
                message.subject,
                row.id,
                row.timestamp,
                row.metadata,
                row.data,
            )
            for row, time in zip(rows, times, strict=True)
        ]
        if self._headers:
            for line, row in zip(lines, rows, strict=True):
                line.headers = headers_of(row.message)
        if self._deliveries:
            for line, row in zip(lines, rows, strict=True):
                line.deliveries = row.message.num_delivered
        return lines


class NdjsonWriter:
    """Writes one block of lines. See `Writer`."""

    def __init__(self, out: Compressed, lines: Callable[[Sequence[Row]], Sequence[object]]) -> None:
        """Write what `lines` makes of rows."""
        self._out = out
        self._lines = lines

    def write(self, rows: Sequence[Row]) -> None:
        """See `Writer`."""
        self._out.write(_encode_lines(self._lines(rows)))

    def finish(self, about: About) -> None:  # noqa: ARG002 - lines do not name their cut
        """See `Writer`."""
        self._out.finish()

    def drop(self) -> None:
        """See `Writer`."""
        self._out.drop()
