"""The open cut: what it holds, when it is due, and the plan that it becomes. Pure.

The cut of a capture takes the entries of all keys together, so the cursor of the capture stays one number. A window is
a span of time, counted from 1970 in UTC; entries of different windows are in different blocks.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from collector.archive.members import MAX_BLOCKS, Members
from collector.archive.record import Block, BlockKind, CutTrigger, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from collector.archive.layout import Key, Layout

_SECOND_NS = 1_000_000_000
_DURABLES_SHARE = 0.95
"""The share of a durable's max ack pending that a cut may hold: above that the durable delivers no more."""
_MOST_KEYS = 20_000
_MOST_WINDOWS = MAX_BLOCKS - _MOST_KEYS - 2
"""How many windows of `__other__` a cut may have: there is a number for each block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPolicy:
    """The limits of a cut: it is due when it reaches the first of them."""

    window: float = 900.0
    """Seconds. A cut is due at the end of the window in which it was opened, by the clock of the replica."""
    max_bytes: int = 64 << 20
    """Of the blocks as they are held."""
    max_messages: int = 250_000
    max_age: float = math.inf
    """Seconds since its first message."""
    max_keys: int = 10_000
    """Entries of further keys go into a block of `__other__`."""
    grace: float = 1.0
    """Seconds after the end of a window within which messages of that window still come."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_keys <= _MOST_KEYS:
            raise ValueError(f"expected max_keys to be from 1 to {_MOST_KEYS}, got {self.max_keys}")

    def of_durable(self, *, max_ack_pending: int, ack_wait: float) -> CutPolicy:
        """Return the limits for a durable: it stalls at its max ack pending, and delivers again after its ack wait.

        A durable without a limit has a `max_ack_pending` of -1 or 0.
        """
        most = self.max_messages
        if max_ack_pending > 0:
            most = min(most, max(1, math.floor(_DURABLES_SHARE * max_ack_pending)))
        return replace(self, max_messages=most, max_age=min(self.max_age, ack_wait / 2))

    def window_of(self, time_ns: int) -> int:
        """Return the start of the window of a time; both in nanoseconds since 1970."""
        length = max(1, round(self.window * _SECOND_NS))
        return time_ns // length * length


class Place(NamedTuple):
    """The key and the window that all entries of one block share."""

    key: Key
    window_ns: int


class _OfWindow(dict["Key", int]):
    """The number of the block of each key in one window."""

    def __init__(self, cut: OpenCut, window_ns: int) -> None:
        super().__init__()
        self._cut = cut
        self._window_ns = window_ns

    def __missing__(self, key: Key) -> int:
        number = self._cut.number_of(Place(key, 0 if key is BlockKind.DEAD else self._window_ns))
        if self._cut.places[number].key == key:  # keys that are too many are without end, and not remembered
            self[key] = number
        return number


class OpenCut:
    """A cut that is filled until it is due. An empty one is never due."""

    def __init__(self, policy: CutPolicy) -> None:
        self.members = Members()
        self.places: list[Place] = []
        """The key and the window of each block, by its number."""
        self._policy = policy
        self._numbers: dict[Place, int] = {}
        self._windows: dict[int, _OfWindow] = {}
        self._due = (math.inf, CutTrigger.AGE)

    def __bool__(self) -> bool:
        return self.members.messages > 0

    def add(
        self,
        sequences: Sequence[int],
        keys: Key | Sequence[Key],
        windows_ns: int | Sequence[int],
        *,
        counts: Sequence[int] | None = None,
        clock: tuple[float, float],
    ) -> Sequence[int]:
        """Take messages in hand, and return the number of the block of each entry.

        The sequences rise and are above all earlier ones. `keys` has the key of each entry, or the one of all;
        `windows_ns` the start of the window of each, or of all. `counts` has the entries of each message, when any has
        not exactly one. `clock` is the time by a clock that never jumps, and the seconds since 1970 by the wall clock.
        """
        if not sequences:
            return ()
        if not self:
            self._open(*clock)
        entries = sum(counts) if counts is not None else len(sequences)
        blocks = self._blocks_of([keys] * entries if isinstance(keys, str | BlockKind) else keys, windows_ns)
        if len(blocks) != entries:
            raise ValueError(f"expected a key for each of {entries} entries, got {len(blocks)}")
        self.members.add(sequences, blocks, counts)
        return blocks

    def _blocks_of(self, keys: Sequence[Key], windows_ns: int | Sequence[int]) -> Sequence[int]:
        if isinstance(windows_ns, int):
            return array("H", map(self._of_window(windows_ns).__getitem__, keys))
        return array("H", [self._of_window(window)[key] for window, key in zip(windows_ns, keys, strict=True)])

    def _of_window(self, window_ns: int) -> _OfWindow:
        found = self._windows.get(window_ns)
        if found is None:
            found = self._windows[window_ns] = _OfWindow(self, window_ns)
        return found

    def number_of(self, place: Place) -> int:
        """Return the number of a block, and begin one if there is none; a key too many gets that of `__other__`."""
        number = self._numbers.get(place)
        if number is not None:
            return number
        if isinstance(place.key, str) and len(self.places) >= self._policy.max_keys:
            crowded = len(self.places) >= self._policy.max_keys + _MOST_WINDOWS
            return self.number_of(Place(BlockKind.OTHER, self.places[0].window_ns if crowded else place.window_ns))
        self._numbers[place] = len(self.places)
        self.places.append(place)
        return len(self.places) - 1

    def _open(self, now: float, wall: float) -> None:
        policy = self._policy
        until_end = policy.window - wall % policy.window + policy.grace
        ends = [(now + until_end, CutTrigger.WINDOW), (now + policy.max_age, CutTrigger.AGE)]
        self._due = min(ends, key=lambda end: end[0])

    @property
    def due_at(self) -> float:
        """When the cut is due by its age or window, by the clock that never jumps; infinite while it is empty."""
        return self._due[0] if self else math.inf

    def due(self, now: float, held_bytes: int) -> CutTrigger | None:
        """Return why the cut is due now, if it is. `held_bytes` is the size of its blocks as they are held."""
        if not self:
            return None
        if held_bytes >= self._policy.max_bytes:
            return CutTrigger.BYTES
        if self.members.messages >= self._policy.max_messages:
            return CutTrigger.MESSAGES
        if len(self.places) >= self._policy.max_keys + _MOST_WINDOWS:
            return CutTrigger.BLOCKS
        return self._due[1] if now >= self._due[0] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The facts of a capture that all of its records share."""

    capture: str
    incarnation: str
    owner: str
    layout: Layout
    making: Mapping[str, str]


def planned(
    plan: Plan,
    cut: OpenCut,
    last: Record | None,
    *,
    to: int,
    to_time_ns: int,
    trigger: CutTrigger,
    new_id: Callable[[], str],
    contents: Sequence[tuple[int, bytes]] | None = None,
) -> Record:
    """Return the record of a cut: the same for the same arguments. `new_id` returns an id that is new each time.

    `contents` has size and SHA-256 of each block, where they are known.
    """
    number, after = (last.number + 1, last.to) if last is not None else (1, 0)
    path_of = partial(plan.layout.path, first=after + 1, last=to, number=number, new_id=new_id)
    named = [path_of(*place) for place in cut.places]
    rows = Counter(cut.members.blocks)
    blocks = tuple(
        _block(place, path, rows[block], contents[block] if contents is not None else (None, None))
        for block, (place, path) in enumerate(zip(cut.places, _apart(named, plan.layout), strict=True))
    )
    return Record(
        number=number,
        id=new_id(),
        owner=plan.owner,
        capture=plan.capture,
        incarnation=plan.incarnation,
        after=after,
        to=to,
        to_time_ns=to_time_ns,
        trigger=trigger,
        making=dict(plan.making),
        overflow=sum(block.rows for block in blocks if block.kind is BlockKind.OTHER),
        blocks=blocks,
        members=cut.members,
    )


def _apart(paths: Sequence[str], layout: Layout) -> Iterator[str]:
    """Yield the paths; one that came before gets the number of its block."""
    seen: set[str] = set()
    for block, path in enumerate(paths):
        apart = path
        while apart in seen:
            apart = layout.numbered(apart, block)
        seen.add(apart)
        yield apart


def _block(place: Place, path: str, rows: int, content: tuple[int | None, bytes | None]) -> Block:
    size, checksum = content
    return Block(
        path=path,
        key="" if isinstance(place.key, BlockKind) else place.key,
        window_ns=place.window_ns,
        rows=rows,
        kind=place.key if isinstance(place.key, BlockKind) else BlockKind.ROWS,
        size=size,
        checksum=checksum,
    )
