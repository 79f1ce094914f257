"""Files for the parts of blocks that are not complete: in memory, or the larger ones in a folder. All of it blocks.

A file in the folder has no name, so a kill leaves nothing behind. When the disk is full, the bytes are held in memory,
and the cut is due.
"""

from __future__ import annotations

import os
from io import BytesIO
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IN_MEMORY = 256 * 1024
"""Bytes of a file from which on it is in the folder."""
MOST_FILES = 256
"""Files in the folder at a time; the others stay in memory."""


class Size:
    """The bytes that one cut holds."""

    def __init__(self) -> None:
        self.bytes = 0
        self.disk_full = False

    @property
    def is_full(self) -> bool:
        """Whether the cut is due, however small it is."""
        return self.disk_full


class Spool:
    """Opens files, and counts what is written to them for the cut that was begun last."""

    def __init__(self, folder: Path | None = None, size: Callable[[], Size] = Size) -> None:
        """Use a folder, or memory alone; `size` returns that of a new cut."""
        self.free = 0 if folder is None else MOST_FILES
        self._folder = folder
        self._new_size = size
        self._size = Size()

    def begin(self) -> Size:
        """Begin a cut, and return the size of all its files."""
        self._size = self._new_size()
        return self._size

    def __call__(self) -> BinaryIO:
        """Return an empty file of the cut that was begun last."""
        return cast("BinaryIO", _File(self, self._size))

    def take_file(self) -> BinaryIO | None:
        """Open a file in the folder; None when there are enough, or the folder takes none."""
        if self.free <= 0:
            return None
        try:
            file = TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - it is closed by `_File`
        except OSError:
            return None
        self.free -= 1
        return cast("BinaryIO", file)


class _File:
    def __init__(self, spool: Spool, size: Size) -> None:
        self._spool = spool
        self._size = size
        self._memory = BytesIO()
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> int:
        """Hold bytes. This raises nothing when the disk is full."""
        self._size.bytes += len(data)
        if self._file is None and self._memory.tell() + len(data) > IN_MEMORY:
            self._file = self._spool.take_file()
            if self._file is not None:
                self._append(self._memory.getvalue())
        self._append(data)
        return len(data)

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._memory.write(data)
            return
        start, left = self._file.tell(), memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._size.disk_full = True
            self._memory = BytesIO(os.pread(self._file.fileno(), start, 0) + data)
            self._memory.seek(0, os.SEEK_END)
            self._end_file()
        else:
            self._memory = BytesIO()

    def seek(self, offset: int) -> None:
        """Go to a place, to read from it."""
        (self._file or self._memory).seek(offset)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, as many as there are of them."""
        if self._file is None or size < 0:
            return (self._file or self._memory).read(size)
        parts = bytearray()
        while len(parts) < size and (part := self._file.read(size - len(parts))):
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """Hold nothing any more."""
        self._end_file()
        self._memory = BytesIO()

    def _end_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
            self._spool.free += 1
