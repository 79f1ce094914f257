"""Which loggers are being moved, and who doubts that their stream and durable still are what they were."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.jetstream.source import Attached


class Doubts:
    """A pipeline that moves entries says so here; when it is doubted, it ends that and attaches again."""

    def __init__(self) -> None:
        self._moving: dict[str, tuple[Attached, Event]] = {}

    @contextmanager
    def moving(self, key: str, attached: Attached) -> Iterator[Event]:
        """Note that a logger is being moved inside of this; give what is set when somebody doubts."""
        doubted = Event()
        self._moving[key] = attached, doubted
        try:
            yield doubted
        finally:
            del self._moving[key]

    def attached(self, key: str) -> Attached | None:
        """Return what was found when the moving of a logger began; None while it is not moved."""
        attached, _ = self._moving.get(key, (None, None))
        return attached

    def doubt(self, key: str) -> None:
        """Have the logger's pipeline attach again, if it moves entries."""
        _, doubted = self._moving.get(key, (None, None))
        if doubted is not None:
            doubted.set()
