"""The weather of a store: how likely a request is struck, and by what. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random


class Blow(StrEnum):
    """What may happen to one request."""

    REFUSED = "refused"
    """It is not passed on: no connection, or the answer that the store is busy or broken."""
    FULL = "full"
    """It is not passed on: no room."""
    LATE = "late"
    """It is passed on after a pause."""
    LATE_ANSWER = "answered late"
    """It is passed on at once, and its answer after a pause."""
    LOST_ANSWER = "answer lost"
    """It is passed on, and its answer is not: the connection ends."""
    CUT = "cut"
    """A half of it is passed on, and the connection ends."""
    CUT_ANSWER = "answer cut"
    """A half of its answer is passed on, and the connection ends."""
    ZOMBIE = "done after its failure"
    """The connection ends at once, and the request is passed on later, when nobody waits for it any more."""
    CONFLICT = "conflict"
    """A create alone: the answer 409 of S3, of a create that was not done."""


@dataclass(frozen=True, slots=True)
class Weather:
    """The likelihoods of blows, from 0 to 1 in sum, and the longest pause of those that pause."""

    blows: Mapping[str, float]
    pause: float = 1.0
    """Seconds at most."""

    def draw(self, chance: Random) -> Blow | None:
        """Return what happens to the next request."""
        drawn = chance.random()
        for blow, likelihood in self.blows.items():
            drawn -= likelihood
            if drawn < 0:
                return Blow(blow)
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can have."""
        return asdict(self)


CLEAR = Weather({})
