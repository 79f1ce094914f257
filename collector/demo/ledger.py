"""The confirmed entries, and their comparison with the entries that were found in MongoDB and in the archive. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from bson import ObjectId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from collector.model import Reason


@dataclass(frozen=True, slots=True)
class Bad:
    """An entry that has to become a dead letter."""

    what: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Letter:
    """The fields of a dead letter that are compared and shown."""

    identity: ObjectId
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The content of a logger's two collections, and of its archive."""

    stored: Sequence[ObjectId]
    letters: Sequence[Letter]
    archived: Sequence[ObjectId] | None = None
    """None: the logger is not archived."""


@dataclass(frozen=True, slots=True)
class Row:
    """The outcomes of the confirmed entries of a logger."""

    logger: str
    confirmed: int
    stored: int
    dead_lettered: int
    missing: int
    """Entries that were confirmed and are nowhere, or not in the archive."""
    duplicated: int
    """Documents and dead letters beyond one for each confirmed entry, and rows of the archive beyond one."""
    misplaced: int
    """Documents that should be dead letters, dead letters that should be documents, and wrong reasons."""
    archived: int | None
    """Rows of the archive; None without one."""

    @property
    def right(self) -> bool:
        """Whether each entry is there once, where it belongs."""
        return not (self.missing or self.duplicated or self.misplaced)


class Ledger:
    """The identities of all confirmed entries."""

    def __init__(self) -> None:
        self._confirmed: defaultdict[str, dict[ObjectId, Bad | None]] = defaultdict(dict)

    def confirm(self, key: str, entry_id: bytes) -> None:
        """Remember an entry that has to be stored."""
        self._confirmed[key][ObjectId(entry_id)] = None

    def confirm_bad(self, key: str, identity: ObjectId, what: str, reason: Reason) -> None:
        """Remember an entry that has to become a dead letter."""
        self._confirmed[key][identity] = Bad(what, reason)

    @property
    def total(self) -> int:
        """The number of confirmed entries."""
        return sum(map(len, self._confirmed.values()))

    @property
    def keys(self) -> list[str]:
        """The loggers that entries were confirmed for."""
        return sorted(self._confirmed)

    def compare(self, found: Mapping[str, Verdict]) -> list[Row]:
        """Return a row for each logger."""
        return [_compare(key, self._confirmed[key], found[key]) for key in self.keys]

    def letters(self, found: Mapping[str, Verdict]) -> list[tuple[str, Bad, Letter | None]]:
        """Return each bad entry with its logger and its dead letter, if there is one."""
        kept = {letter.identity: letter for one in found.values() for letter in one.letters}
        return [
            (key, bad, kept.get(identity))
            for key, confirmed in self._confirmed.items()
            for identity, bad in confirmed.items()
            if bad is not None
        ]


def _compare(key: str, confirmed: Mapping[ObjectId, Bad | None], found: Verdict) -> Row:
    stored, letters = set(found.stored), {letter.identity: letter.reason for letter in found.letters}
    arrived = confirmed.keys() & (stored | letters.keys())
    wanted = {identity: bad.reason.value for identity, bad in confirmed.items() if bad is not None}
    good = confirmed.keys() - wanted.keys()
    rows = good if found.archived is None else found.archived
    return Row(
        key,
        confirmed=len(confirmed),
        stored=len(confirmed.keys() & stored),
        dead_lettered=len(confirmed.keys() & letters.keys()),
        missing=len(confirmed) - len(arrived) + len(good - set(rows)),
        duplicated=len(found.stored) + len(found.letters) - len(arrived) + len(rows) - len(good & set(rows)),
        archived=None if found.archived is None else len(rows),
        misplaced=sum(wanted.get(identity) != letters.get(identity) for identity in arrived),
    )


def total(rows: Sequence[Row]) -> Row:
    """Add the rows up."""
    names = [field.name for field in fields(Row) if field.name != "logger"]
    return Row("total", **{name: sum(getattr(row, name) or 0 for row in rows) for name in names})
