"""Looks at an archive as readers do, again and again: all blocks by their paths, and never the log.

An object that was seen once never changes and never goes away, and each block that is visible is whole. So the rows of
all blocks that were ever seen are those that a reader finds at the last look, and each look finds them once at most.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING

from anyio import create_task_group, current_time, sleep

from collector.errors import NotThere, StoreRefused, StoreUnavailable
from tests.chaos.archive.found import LOG, capture_of, found_in
from tests.chaos.verdict import Damage, Harm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from collector.archive.log import LogStore
    from tests.chaos.archive.found import Found

_AGAIN = 12
"""Objects that were seen before and are read again at each look; the last look reads all."""
_AT_ONCE = 8
_AWAY = (StoreUnavailable, StoreRefused, NotThere)
"""The next look finds whether an object is gone."""


class Looks:
    """What was seen of one archive so far."""

    def __init__(self, store: LogStore, chance: Random, round_now: Callable[[], int]) -> None:
        self.damages: list[Damage] = []
        self.blocks: dict[str, list[Found]] = {}
        """The rows of each block, by its path."""
        self.records: dict[str, bytes] = {}
        """The bytes of each file of the log, by its path."""
        self.last_growth: dict[str, float] = {}
        """When rows of each capture were last seen to be more, by the clock of the event loop."""
        self.longest: dict[str, float] = {}
        """The longest time without new rows of each capture, since it was last emptied."""
        self.looks = 0
        self._hashes: dict[str, bytes] = {}
        self._seen: dict[tuple[str, int], str] = {}
        self._store = store
        self._chance = chance
        self._round_now = round_now

    def has(self, source: str, number: int) -> bool:
        """Tell whether a message is in a block that was seen."""
        return (source, number) in self._seen

    def records_of(self) -> Counter[str]:
        """Return how many files the log of each capture has."""
        return Counter(path.removeprefix(LOG).split("-", 1)[0] for path in self.records)

    async def watch(self) -> None:
        """Look at random moments until cancelled; a look that takes long comes less often."""
        while True:
            began = current_time()
            await self.look()
            await sleep(self._chance.uniform(0.05, 0.8) + 2 * (current_time() - began))

    async def look(self, again: int = _AGAIN) -> bool:
        """Look once; return whether the store let it."""
        try:
            paths = await self._store.after("", "")
            if gone := self._hashes.keys() - set(paths):
                gone -= set(await self._store.after("", ""))
            for path in gone:
                self._damage(path, "it was there and is gone")
            known = [path for path in paths if path in self._hashes]
            chosen = self._chance.sample(known, min(again, len(known)))
            chosen += [path for path in paths if path not in self._hashes]
            for start in range(0, len(chosen), _AT_ONCE):
                await self._read_all(chosen[start : start + _AT_ONCE])
        except ExceptionGroup as failures:
            if failures.split(_AWAY)[1] is not None:
                raise
            return False
        except _AWAY:
            return False
        self.looks += 1
        self._note_growth()
        return True

    async def look_at_all(self) -> bool:
        """Look, and read every object again."""
        return await self.look(len(self._hashes))

    def begin(self) -> None:
        """Begin to measure the times without new rows anew."""
        self.longest = {}
        self.last_growth = dict.fromkeys(self.last_growth, current_time())

    async def _read_all(self, paths: Sequence[str]) -> None:
        contents: dict[str, bytes] = {}

        async def read(path: str) -> None:
            contents[path] = await self._store.read(path)

        async with create_task_group() as group:
            for path in paths:
                group.start_soon(read, path)
        for path, content in contents.items():
            if path not in self._hashes:
                self._take(path, content)
            elif _hash(content) != self._hashes[path]:
                self._damage(path, "its bytes have changed")

    def _take(self, path: str, content: bytes) -> None:
        self._hashes[path] = _hash(content)
        if path.startswith(LOG):
            self.records[path] = content
            return
        try:
            rows = self.blocks[path] = found_in(path, content)
        except ValueError as exc:
            self.blocks[path] = []
            self._damage(path, str(exc))
            return
        self._note_rows(path, rows)

    def _note_rows(self, path: str, rows: Iterable[Found]) -> None:
        for found in rows:
            known = self._seen.setdefault((found.source, found.number), path)
            if known != path:
                self._damage(path, f"{found.source} {found.number} is visible here and in {known}")
        key = capture_of(path)
        self.longest[key] = max(self.longest.get(key, 0.0), current_time() - self.last_growth.get(key, current_time()))
        self.last_growth[key] = current_time()

    def _note_growth(self) -> None:
        for key, moment in self.last_growth.items():
            self.longest[key] = max(self.longest.get(key, 0.0), current_time() - moment)

    def _damage(self, path: str, what: str) -> None:
        self.damages.append(Damage(Harm.WRONG, capture_of(path), path, -1, self._round_now(), what))


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()
