"""CSV by RFC 4180, with line feeds: a header once a block, fields in maps as columns `a.b`, null as an empty field.

Text that CSV has no field of its own for, which is the empty one and one with a NUL, stays in `_rest`.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from collector.archive.checked import to_json
from collector.archive.formats.columns import DATA, DELIVERIES, FACTS, HEADERS, REST, Lifting
from collector.archive.formats.facts import headers_of
from collector.archive.times import time_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import msgspec

    from collector.archive.compression import Compressed, Out, Packing
    from collector.archive.formats import About
    from collector.archive.formats.columns import Column
    from collector.archive.rows import Row

_RETURN = "\r\n"
"""The line end that the csv module is told, so that it quotes both signs; it is cut off again."""


class Csv:
    """Makes blocks of CSV. See `Format`."""

    def __init__(
        self, packing: Packing, columns: Sequence[Column] = (), *, headers: bool = False, deliveries: bool = False
    ) -> None:
        """Write declared columns and `_rest`; without columns `data` is one field of JSON."""
        self.suffix = f"csv{packing.suffix}"
        self._packing = packing
        self._lifting = Lifting(columns, _fits) if columns else None
        self._headers = headers
        self._deliveries = deliveries
        asked = [name for name, wanted in ((HEADERS, headers), (DELIVERIES, deliveries)) if wanted]
        own = [*(column.name for column in columns), REST] if columns else [DATA]
        self._names = [*FACTS, *asked, *own]

    def open(self, out: Out) -> CsvWriter:
        """See `Format`."""
        writer = CsvWriter(self._packing.open(out), self)
        writer.write_fields([self._names])
        return writer

    def fields(self, rows: Sequence[Row]) -> Iterable[Sequence[Any]]:
        """Return the fields of rows."""
        messages = [row.message for row in rows]
        columns: list[Iterable[Any]] = [
            [message.sequence for message in messages],
            [row.position for row in rows],
            time_texts([message.published_ns for message in messages]),
            [message.subject for message in messages],
            [row.id for row in rows],
            [row.timestamp for row in rows],
            _texts(row.metadata for row in rows),
        ]
        if self._headers:
            columns.append(_texts(to_json(headers_of(message)) for message in messages))
        if self._deliveries:
            columns.append([message.num_delivered for message in messages])
        data = [row.data for row in rows]
        if self._lifting is None:
            columns.append(_texts(data))
        elif rows:
            columns += zip(*[map(_field, self._lifting.lift(value)) for value in data], strict=True)
        return zip(*columns, strict=True)


def _fits(value: object) -> bool:
    return not isinstance(value, str) or (value != "" and "\0" not in value)


def _texts(values: Iterable[msgspec.Raw]) -> list[str | None]:
    return [None if encoded == b"null" else encoded.decode() for encoded in map(bytes, values)]


def _field(value: Any) -> Any:
    if type(value) is bytes:
        return value.decode()
    return str(value).lower() if type(value) is bool else value


class CsvWriter:
    """Writes one block of CSV. See `Writer`."""

    def __init__(self, out: Compressed, form: Csv) -> None:
        self._out = out
        self._form = form
        self._lines = _Lines()
        self._write = csv.writer(self._lines, lineterminator=_RETURN).writerows

    def write(self, rows: Sequence[Row]) -> None:
        """See `Writer`."""
        self.write_fields(self._form.fields(rows))

    def write_fields(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows of fields."""
        self._write(rows)
        self._out.write("".join(self._lines.taken()).encode())

    def finish(self, about: About) -> None:  # noqa: ARG002 - lines do not name their cut
        """See `Writer`."""
        self._out.finish()

    def drop(self) -> None:
        """See `Writer`."""
        self._out.drop()


class _Lines:
    """Takes the lines of the csv module."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def write(self, line: str) -> None:
        self._lines.append(f"{line[: -len(_RETURN)]}\n")

    def taken(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines
