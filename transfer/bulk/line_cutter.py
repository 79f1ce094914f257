"""Bytes as they are read -> lines, in time that grows with their number alone. Pure.

Of a line that is too long only its beginning is kept, so that one without an end takes no memory.
"""

from __future__ import annotations

from typing import NamedTuple

_KEPT = 256
"""Bytes of a line that is too long."""


class Line(NamedTuple):
    """One line, without its line break."""

    number: int
    """Counted from 1."""
    text: bytes
    size: int
    """How many bytes it has; more than there are in `text` when it is too long."""
    holes: int
    """Zero bytes before it, which are no part of `text`: a file that was cut while it was written begins with such."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return self.size == len(self.text)


class LineCutter:
    """Takes chunks, gives lines of at most `longest` bytes."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._holes = 0

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that end in this chunk."""
        first, *others = chunk.split(b"\n")
        self._hold(first)
        lines: list[Line] = []
        for piece in others:
            lines.append(self._finish())
            self._hold(piece)
        return lines

    def end(self) -> list[Line]:
        """Return the last line, which may end without a line break."""
        return [self._finish()] if self._size or self._holes else []

    def _hold(self, piece: bytes) -> None:
        if not self._size and piece.startswith(b"\0"):
            self._holes += len(piece) - len(piece := piece.lstrip(b"\0"))
        before, self._size = self._size, self._size + len(piece)
        if self._size <= self._longest:
            self._pieces.append(piece)
        elif before <= self._longest:
            self._pieces = [b"".join([*self._pieces, piece])[: min(_KEPT, self._longest)]]

    def _finish(self) -> Line:
        self._number += 1
        line = Line(self._number, b"".join(self._pieces), self._size, self._holes)
        self._begin()
        return line
