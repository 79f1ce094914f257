"""Blocks of CSV: fields in, rows out. Pure."""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING

from collector.archive.formats.columns import FACTS
from collector.archive.readers import Archived, Places
from collector.archive.readers.columns import Lowering, raw
from collector.archive.readers.lines import whole_lines
from collector.errors import BlockDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_ROWS = 500
csv.field_size_limit(1 << 30)  # of the whole process; the module's own limit is 128 KiB


class CsvRows:
    """Reads a block of CSV. See `Reader`."""

    def __init__(self, pieces: Iterable[bytes], kinds: Mapping[str, str]) -> None:
        """Read; `kinds` has the type of each declared column."""
        self._fields = csv.reader(_lines(pieces), strict=True)
        self._kinds = kinds

    def rows(self) -> Iterator[Sequence[Archived]]:
        """See `Reader`."""
        names = self._header()
        places = {name: place for place, name in enumerate(names)}
        lowering = Lowering(names, self._kinds)
        take = [places[name] for name in FACTS]
        for rows in self._groups(len(names)):
            yield [self._row(fields, take, lowering) for fields in rows]

    def places(self) -> Iterator[Places]:
        """See `Reader`."""
        names = self._header()
        sequence, position = names.index("_seq"), names.index("_pos")
        for rows in self._groups(len(names)):
            try:
                yield [int(fields[sequence]) for fields in rows], [int(fields[position]) for fields in rows]
            except ValueError as error:
                raise BlockDamaged("CSV: a row has no whole number as its _seq or _pos") from error

    def _header(self) -> list[str]:
        names = next(iter(self._groups(0, 1)), [[]])[0]
        if tuple(names[: len(FACTS)]) != FACTS:
            raise BlockDamaged(f"CSV: expected a header that begins with {','.join(FACTS)}")
        return names

    def _groups(self, width: int, most: int = _ROWS) -> Iterator[list[list[str]]]:
        """Yield some rows at a time, each with as many fields as the header."""
        while True:
            try:
                rows = list(islice(self._fields, most))
            except (csv.Error, UnicodeDecodeError) as error:
                why = str(error) if isinstance(error, csv.Error) else "text that is not UTF-8"
                raise BlockDamaged(f"CSV: line {self._fields.line_num}: {why}") from error
            if not rows:
                return
            if width and any(len(fields) != width for fields in rows):
                raise BlockDamaged(f"CSV: a row before line {self._fields.line_num} has not {width} fields")
            yield rows

    def _row(self, fields: Sequence[str], take: Sequence[int], lowering: Lowering) -> Archived:
        sequence, position, time, subject, claimed, timestamp, metadata = (fields[place] for place in take)
        try:
            numbers = int(sequence), int(position)
        except ValueError as error:
            raise BlockDamaged("CSV: a row has no whole number as its _seq or _pos") from error
        return Archived(
            sequence=numbers[0],
            position=numbers[1],
            time=time,
            subject=subject,
            id=claimed or None,
            timestamp=timestamp or None,
            metadata=raw(metadata),
            data=lowering.data_of_text(fields),
        )


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    for lines in whole_lines(pieces):
        for line in lines[:-1].split(b"\n"):
            yield line.decode() + "\n"
