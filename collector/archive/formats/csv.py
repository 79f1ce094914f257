"""CSV by RFC 4180, with line feeds: a header once a block, fields in maps as columns `a.b`, null as an empty field.

Text that CSV has no field of its own for, which is the empty one and one with a NUL, stays in `_rest`.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from collector.archive.checked import text_of, to_json
from collector.archive.formats.columns import DATA, DELIVERIES, FACTS, HEADERS, REST, Lifting
from collector.archive.formats.facts import headers_of
from collector.archive.times import time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def fields(self, row: Row) -> list[Any]:
        """Return the fields of a row."""
        message = row.message
        fields = [
            message.sequence,
            row.position,
            time_text(message.published_ns),
            message.subject,
            row.id,
            row.timestamp,
            text_of(row.metadata),
        ]
        if self._headers:
            fields.append(text_of(to_json(headers_of(message))))
        if self._deliveries:
            fields.append(message.num_delivered)
        if self._lifting is None:
            fields.append(text_of(row.data))
        else:
            fields += self._lifting.lift(row.data)
        return fields


def _fits(value: object) -> bool:
    return not isinstance(value, str) or (value != "" and "\0" not in value)


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
        self.write_fields([self._form.fields(row) for row in rows])

    def write_fields(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows of fields."""
        self._write([[_field(value) for value in row] for row in rows])
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
