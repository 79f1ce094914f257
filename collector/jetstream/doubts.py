"""The pipelines that move entries now, and doubts whether stream and durable of a logger are still the same."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from collector.runtime.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio import Event

    from collector.jetstream.source import Attached


class Doubts:
    """Each pipeline that moves entries is registered here; at a doubt it stops moving and attaches again."""

    def __init__(self) -> None:
        self._moving: dict[str, tuple[Attached, Latch]] = {}

    @contextmanager
    def moving(self, key: str, attached: Attached) -> Iterator[Event]:
        """Register a moving logger while the block lasts; yield an event that is set at a doubt."""
        doubted = Latch()
        self._moving[key] = attached, doubted
        try:
            yield doubted
        finally:
            del self._moving[key]

    def attached(self, key: str) -> Attached | None:
        """Return stream and durable as they were when moving began; None while the logger is not moved."""
        attached, _ = self._moving.get(key, (None, None))
        return attached

    def doubt(self, key: str) -> None:
        """Let the logger's pipeline attach again, if it moves entries."""
        _, doubted = self._moving.get(key, (None, None))
        if doubted is not None:
            doubted.set()
