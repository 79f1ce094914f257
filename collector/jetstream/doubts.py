"""The pipelines that move entries now, and doubts whether stream and durable of a logger are still the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from collector.runtime.lasting import Lasting
from collector.runtime.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from anyio import Event

    from collector.flow.in_hand import InHand
    from collector.jetstream.source import Attached


class _Moving(NamedTuple):
    key: str
    attached: Attached
    doubted: Latch
    heard_at: Callable[[], float | None]
    in_hand: InHand | None


class Doubts:
    """Each pipeline that moves entries is registered here; at a doubt it stops moving and attaches again."""

    def __init__(self) -> None:
        self._moving: dict[str, _Moving] = {}
        self._begin, self._end = self._add, self._remove

    def moving(
        self,
        key: str,
        attached: Attached,
        heard_at: Callable[[], float | None] = lambda: None,
        in_hand: InHand | None = None,
    ) -> AbstractContextManager[Event]:
        """Register a moving logger while the block lasts; the block gets an event that is set at a doubt.

        `heard_at` returns when its requests last heard something, and None while there are none. `in_hand` has its
        unanswered deliveries.
        """
        moving = _Moving(key, attached, Latch(), heard_at, in_hand)
        return Lasting(self._begin, self._end, moving, moving.doubted)

    def _add(self, moving: _Moving) -> None:
        self._moving[moving.key] = moving

    def _remove(self, moving: _Moving) -> None:
        del self._moving[moving.key]

    def attached(self, key: str) -> Attached | None:
        """Return stream and durable as they were when moving began; None while the logger is not moved."""
        moving = self._moving.get(key)
        return None if moving is None else moving.attached

    def heard_at(self, key: str) -> float | None:
        """Return when the logger's requests last heard something; None without requests, or while it is not moved."""
        moving = self._moving.get(key)
        return None if moving is None else moving.heard_at()

    def in_hand(self, key: str) -> InHand | None:
        """Return the unanswered deliveries of a logger; None while it is not moved."""
        moving = self._moving.get(key)
        return None if moving is None else moving.in_hand

    def doubt(self, key: str) -> None:
        """Let the logger's pipeline attach again, if it moves entries."""
        if (moving := self._moving.get(key)) is not None:
            moving.doubted.set()
