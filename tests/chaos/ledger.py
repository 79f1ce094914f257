"""What producers know of every entry that they have published. Pure, and small: some bytes an entry."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class State(IntEnum):
    """What has to be true of an entry in the end."""

    NOT_SENT = 0
    """Nowhere: it was never sent, or JetStream surely did not take it."""
    CONFIRMED = 1
    """There once."""
    MAYBE = 2
    """There once or not at all: its publish was never confirmed, or the stream was deleted while it waited there."""


@dataclass(frozen=True, slots=True)
class Special:
    """An entry whose content does not follow from its number, or that has to become a dead letter."""

    fingerprint: bytes | None
    """Of its data; of its original bytes when it has to be a dead letter; None when these are not compared."""
    reason: str | None = None
    """Of its dead letter; None when it has to be stored."""


class Source:
    """The entries of one producer, numbered from 0."""

    def __init__(self, name: str, key: str) -> None:
        self.name = name
        self.key = key
        self.special: dict[int, Special] = {}
        self._states = bytearray()
        self._first_of_round: list[int] = []
        self._rounds: list[int] = []

    def __len__(self) -> int:
        return len(self._states)

    def take(self, count: int = 1) -> range:
        """Return the next numbers; they are not sent yet."""
        first = len(self._states)
        self._states.extend(bytes(count))
        return range(first, first + count)

    def state(self, number: int) -> State:
        """Return what has to be true of an entry; one that nobody took was not sent."""
        return State(self._states[number]) if 0 <= number < len(self._states) else State.NOT_SENT

    def set(self, numbers: Iterable[int], state: State) -> None:
        """Note what is known of entries now."""
        for number in numbers:
            self._states[number] = state

    def count(self, state: State) -> int:
        """Return how many entries are in a state."""
        return self._states.count(state)

    def begin_round(self, number: int) -> None:
        """Have what is taken from now on belong to a round."""
        self._rounds.append(number)
        self._first_of_round.append(len(self._states))

    def round_of(self, number: int) -> int:
        """Return the round in which an entry was published; 0 before the first."""
        index = bisect_right(self._first_of_round, number)
        return self._rounds[index - 1] if index else 0


class Ledger:
    """All sources."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}
        self._round = 0

    def source(self, name: str, key: str) -> Source:
        """Return a new source that publishes to the logger `key`."""
        if name in self.sources:
            raise ValueError(f"expected a new name for a source, got {name!r}, which there is")
        source = self.sources[name] = Source(name, key)
        source.begin_round(self._round)
        return source

    def begin_round(self, number: int) -> None:
        """Have what is published from now on belong to a round."""
        self._round = number
        for source in self.sources.values():
            source.begin_round(number)

    @property
    def confirmed(self) -> int:
        """How many entries are confirmed."""
        return sum(source.count(State.CONFIRMED) for source in self.sources.values())
