"""Bytes with holes of a fixed width: what is encoded once and sent many times with other numbers in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Template:
    """A sample cut at its holes; each hole is found by the bytes that stand in it in the sample, in this order."""

    def __init__(self, sample: bytes, holes: Sequence[bytes]) -> None:
        pieces, rest = [], sample
        for hole in holes:
            before, found, rest = rest.partition(hole)
            if not found or sample.count(hole) != 1:
                raise ValueError(f"expected {hole!r} once in the sample, after the holes before it: {sample!r}")
            pieces.append(before)
        self._format = b"%b".join(piece.replace(b"%", b"%%") for piece in (*pieces, rest))

    def fill(self, *values: bytes) -> bytes:
        """Return the sample with other values in its holes; they must be as long as what they replace."""
        return self._format % values
