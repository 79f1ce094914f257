"""The entries of a block beside those that its record gives it: what is missing, there twice, or foreign. Pure.

As long as a block is right, its rows are compared some hundreds at a time and nothing of them is kept.
"""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collector.archive.members import Members
    from collector.archive.readers import Places

_SHOWN = 3
Place = tuple[int, int]
"""The sequence of an entry, and its position."""


class Wanted:
    """The entries of one block by its record, in the order of the stream."""

    __slots__ = ("positions", "sequences")

    def __init__(self) -> None:
        self.sequences = array("Q")
        self.positions = array("Q")

    def places(self, start: int = 0, end: int | None = None) -> Iterator[Place]:
        """Yield the places from one number to another."""
        return zip(self.sequences[start:end], self.positions[start:end], strict=True)


def wanted_of(members: Members, blocks: int) -> list[Wanted]:
    """Return the entries of each block of a record."""
    found = [Wanted() for _ in range(blocks)]
    for sequence, share in members.shares():
        for position, block in enumerate(share):
            one = found[block]
            one.sequences.append(sequence)
            one.positions.append(position)
    return found


class Compared:
    """The rows of a block as they are compared with those that it should have."""

    def __init__(self, wanted: Wanted) -> None:
        self.rows = 0
        self._wanted = wanted
        self._odd: Counter[Place] | None = None
        """All rows, once there was one that was not the next of the wanted ones."""

    def take(self, places: Places) -> None:
        """Compare some more rows."""
        sequences, positions = places
        start, end = self.rows, self.rows + len(sequences)
        self.rows = end
        if self._odd is None:
            wanted = self._wanted
            if sequences == wanted.sequences[start:end].tolist() and positions == wanted.positions[start:end].tolist():
                return
            self._odd = Counter(wanted.places(0, start))
        self._odd.update(zip(sequences, positions, strict=True))

    def fault(self, others: Iterable[Wanted] = ()) -> str:
        """Return how the rows differ from the wanted ones, or nothing; `others` are the other blocks of the cut."""
        wanted = self._wanted
        if self._odd is None and self.rows == len(wanted.sequences):
            return ""
        found = Counter(wanted.places(0, self.rows)) if self._odd is None else self._odd
        own = set(wanted.places())
        foreign = sorted(place for place in found if place not in own)
        parts = [
            _some("are missing", sorted(own - found.keys())),
            _some("are there more than once", sorted(place for place, count in found.items() if count > 1)),
            _some(f"belong to {_owner(foreign, others)}", foreign),
        ]
        return "; ".join(filter(None, parts)) or "its rows are not in the order of the stream"


def _owner(foreign: list[Place], others: Iterable[Wanted]) -> str:
    left = set(foreign)
    if left and not left.difference(chain.from_iterable(other.places() for other in others)):
        return "other blocks of this cut"
    return "no block of this cut" if left else ""


def _some(what: str, places: list[Place]) -> str:
    if not places:
        return ""
    shown = ", ".join(f"{sequence}/{position}" for sequence, position in places[:_SHOWN])
    more = ", …" if len(places) > _SHOWN else ""
    return f"{len(places)} {what} ({shown}{more})"
