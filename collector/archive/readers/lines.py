"""Blocks of lines: NDJSON rows, raw messages and dead letters. Each line is one JSON object. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from collector.archive.readers import Archived, Captured, Letter, Places, places_of
from collector.errors import BlockDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_Row = TypeVar("_Row", Archived, Captured, Letter)


class Lines(Generic[_Row]):
    """Reads lines of one kind. See `Reader`."""

    def __init__(self, pieces: Iterable[bytes], kind: type[_Row]) -> None:
        self._pieces = pieces
        self._decoder: msgspec.json.Decoder[_Row] = msgspec.json.Decoder(kind)
        self._read = 0

    def rows(self) -> Iterator[Sequence[_Row]]:
        """See `Reader`."""
        for lines in whole_lines(self._pieces):
            try:
                if not lines.isascii():
                    lines.decode()  # msgspec passes over values without a look
                rows = self._decoder.decode_lines(lines)
            except (ValueError, RecursionError) as error:
                raise self._damage(lines) from error
            self._read += len(rows)
            yield rows

    def places(self) -> Iterator[Places]:
        """See `Reader`."""
        return map(places_of, self.rows())

    def _damage(self, lines: bytes) -> BlockDamaged:
        """Say which line is no row; the text of an error may not have a payload in it."""
        for number, line in enumerate(lines.splitlines(), self._read + 1):
            try:
                line.decode()
                self._decoder.decode(line)
            except msgspec.DecodeError as error:
                return BlockDamaged(f"line {number} is no row: {error}")
            except (UnicodeDecodeError, RecursionError) as error:
                return BlockDamaged(f"line {number} is no row: {type(error).__name__}")
        return BlockDamaged(f"a line behind line {self._read} is no row")


def rows_reader(pieces: Iterable[bytes]) -> Lines[Archived]:
    """Return a reader of NDJSON."""
    return Lines(pieces, Archived)


def raw_reader(pieces: Iterable[bytes]) -> Lines[Captured]:
    """Return a reader of raw messages."""
    return Lines(pieces, Captured)


def letters_reader(pieces: Iterable[bytes]) -> Lines[Letter]:
    """Return a reader of dead letters."""
    return Lines(pieces, Letter)


def whole_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, cut between lines only. Raises BlockDamaged when the last line has no end."""
    rest: list[bytes] = []
    for piece in pieces:
        if end := piece.rfind(b"\n") + 1:
            yield b"".join([*rest, piece[:end]])
            rest = []
        if end < len(piece):
            rest.append(piece[end:])
    if rest:
        raise BlockDamaged("its last line has no end")
