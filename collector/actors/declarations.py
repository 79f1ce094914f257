"""The declarations of the bucket, key by key, and the loggers that go on although no key declares them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from collector.jetstream.bucket import Life


@dataclass(frozen=True, slots=True)
class Declaration:
    """A key of the bucket as it was last listed or changed."""

    revision: int
    unreadable: str = ""
    """Why the key declares no logger; empty when it does."""


def are_lost(absent: Collection[str], before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Tell whether absent keys were lost by accident: more keys are absent than stayed as they were.

    `before` and `now` are the revisions of two lists in a row. Keys that were put anew between the two lists count for
    neither side: after a purge they are the loggers that somebody has already declared again.
    """
    stayed = sum(now.get(key) == revision for key, revision in before.items())
    return len(absent) > stayed


class Declarations:
    """Remembers the keys of the bucket from list to list.

    A deleted key always stops its logger. A key that is absent from a list without a delete stops it too, except in
    three accidents: the bucket is another one than before, or an older state of it, or `are_lost`. An accident is
    remembered: its loggers go on until their keys are put or deleted, whatever later lists hold.
    """

    def __init__(self) -> None:
        self.kept: set[str] = set()
        """Loggers that go on although the bucket does not declare them."""
        self._life: Life | None = None
        """The life of the bucket, with the highest revision of the last whole list and of the changes after it."""
        self._held: dict[str, Declaration] = {}
        self._held_before: dict[str, Declaration] = {}
        """The keys that were held when the present list began."""
        self._listed: dict[str, int] = {}
        """The revisions of the last whole list."""
        self._heard = 0
        """The highest revision since the last list began."""

    @property
    def unreadable(self) -> int:
        """How many keys declare no logger."""
        return sum(bool(declaration.unreadable) for declaration in self._held.values())

    def begin(self) -> None:
        """Take the keys that follow as a list of the whole bucket."""
        if self._life is not None:
            self._life = replace(self._life, last=max(self._life.last, self._heard))
        self._held_before, self._held, self._heard = self._held, {}, 0

    def broken_off(self) -> None:
        """Take the list as a part of the bucket: the other keys are as they were."""
        self._held = self._held_before | self._held

    def put(self, key: str, declaration: Declaration) -> None:
        """Note a key that is there."""
        self.kept.discard(key)
        self._held[key] = declaration
        self._heard = max(self._heard, declaration.revision)

    def delete(self, key: str) -> None:
        """Note the delete of a key."""
        self.kept.discard(key)
        self._held.pop(key, None)
        self._held_before.pop(key, None)

    def complete(self, life: Life, known: set[str]) -> set[str]:
        """Take the list as whole; return the loggers among the known ones that are not wanted any more.

        `life` is that of the bucket when the list was begun.
        """
        revisions = {key: declaration.revision for key, declaration in self._held.items()}
        absent = known - set(self._held)
        self.kept &= absent
        vanished = absent - self.kept
        continues = self._life is None or life.continues(self._life)
        if not continues or are_lost(vanished, self._listed, revisions):
            self.kept |= vanished
        self._life, self._listed = life, revisions
        return absent - self.kept
