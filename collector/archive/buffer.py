"""The memory of the open cuts of all archived loggers of a replica: at its end the larger cuts are due. Pure."""

from __future__ import annotations

from weakref import WeakSet

from collector.archive.spool import Size


class Buffer:
    """Watches the sizes of cuts. A cut counts as long as anything of it is held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: WeakSet[Size] = WeakSet()

    def begin(self) -> Size:
        """Return the size of a cut that begins now."""
        size = _Watched(self)
        self._sizes.add(size)
        return size

    @property
    def used(self) -> int:
        """The bytes that all cuts hold."""
        return sum([size.bytes for size in self._sizes])

    def is_too_large(self, size: Size) -> bool:
        """Tell whether a cut has to leave, because all is used up and no average cut is larger."""
        used = self.used
        return used >= self._limit and size.bytes * len(self._sizes) >= used


class _Watched(Size):
    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        super().__init__()

    @property
    def is_full(self) -> bool:
        """See `Size`."""
        return self.disk_full or self._buffer.is_too_large(self)
