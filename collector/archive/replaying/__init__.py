"""Publishes an archive again: its entries into the stream of a logger, or its raw messages into any stream."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """A place in an archive: everything up to it is published."""

    cut: int
    sequence: int
    position: int


NOWHERE = Place(0, 0, 0)
