"""The verdict: what was confirmed against what was found. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.chaos.ledger import Special, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.ledger import Ledger, Source


class Harm(StrEnum):
    """What must not happen to an entry."""

    LOST = "lost"
    """Confirmed and nowhere."""
    DUPLICATED = "duplicated"
    """There more than once: in the collection, in the dead letters, or in both."""
    WRONG = "wrong"
    """Stored and should be a dead letter or the other way round, with other content, or never published."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A document or a dead letter that was found, and which entry it is."""

    key: str
    source: str
    """Empty when it cannot be told."""
    number: int
    fingerprint: bytes | None
    """Of a dead letter's original bytes; None for a document."""
    faithful: bool = True
    """Whether a document is what it was published as."""
    reason: str | None = None
    """Of a dead letter; None for a document."""
    where: str = ""
    """To find it again."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One entry that was harmed."""

    harm: Harm
    key: str
    source: str
    number: int
    round: int
    what: str


@dataclass(slots=True)
class Verdict:
    """What became of all entries."""

    confirmed: int = 0
    unconfirmed: int = 0
    stored: int = 0
    dead_lettered: int = 0
    damages: list[Damage] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether each confirmed entry is where it belongs, once, and something was confirmed at all."""
        return not self.damages and self.confirmed > 0

    def count(self, harm: Harm, rounds: Iterable[int] | None = None) -> int:
        """Return how many entries were harmed so, of all or of some rounds."""
        wanted = None if rounds is None else set(rounds)
        return sum(one.harm is harm and (wanted is None or one.round in wanted) for one in self.damages)


def judge(ledger: Ledger, sightings: Iterable[Sighting]) -> Verdict:
    """Compare; every sighting counts, also one of an entry that nobody published."""
    verdict = Verdict()
    seen: dict[str, bytearray] = {name: bytearray(len(source)) for name, source in ledger.sources.items()}
    places: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for sighting in sightings:
        verdict.stored += sighting.reason is None
        verdict.dead_lettered += sighting.reason is not None
        source = ledger.sources.get(sighting.source)
        if source is None or not 0 <= sighting.number < len(source):
            wrong = f"nobody published it: {sighting.where}"
            verdict.damages.append(Damage(Harm.WRONG, sighting.key, sighting.source, sighting.number, 0, wrong))
            continue
        copies = seen[source.name]
        copies[sighting.number] = min(255, copies[sighting.number] + 1)
        if copies[sighting.number] > 1 or source.state(sighting.number) is State.MAYBE:
            places[source.name, sighting.number].append(sighting.where)
        if wrong := _wrong(source, sighting):
            verdict.damages.append(_damage(Harm.WRONG, source, sighting.number, f"{wrong}: {sighting.where}"))
    for source in ledger.sources.values():
        _count(verdict, source, seen[source.name], places)
    return verdict


def _wrong(source: Source, sighting: Sighting) -> str:
    """Say what is wrong with one document or dead letter, if anything is."""
    special = source.special.get(sighting.number, Special(None))
    if source.state(sighting.number) is State.NOT_SENT:
        return "its publisher was told that it is not stored"
    if sighting.key != source.key:
        return f"expected it with logger {source.key}, got it with {sighting.key}"
    if sighting.reason != special.reason:
        return f"expected {special.reason or 'a document'}, got {sighting.reason or 'a document'}"
    if sighting.reason is None:
        return "" if sighting.faithful else "other content than was published"
    same = special.fingerprint in {None, sighting.fingerprint}
    return "" if same else "other bytes in the dead letter than were published"


def _count(verdict: Verdict, source: Source, seen: bytearray, places: dict[tuple[str, int], list[str]]) -> None:
    verdict.confirmed += source.count(State.CONFIRMED)
    verdict.unconfirmed += source.count(State.MAYBE)
    for number, copies in enumerate(seen):
        if copies == 1:
            continue
        if copies > 1:
            what = f"{copies} times: {', '.join(places[source.name, number])} and one before"
            verdict.damages.append(_damage(Harm.DUPLICATED, source, number, what))
        elif source.state(number) is State.CONFIRMED:
            verdict.damages.append(_damage(Harm.LOST, source, number, "confirmed and nowhere"))


def _damage(harm: Harm, source: Source, number: int, what: str) -> Damage:
    return Damage(harm, source.key, source.name, number, source.round_of(number), what)
