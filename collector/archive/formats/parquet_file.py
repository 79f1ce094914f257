"""The file that Arrow writes a block of Parquet to: errors are kept, and the same rows have the same bytes. Pure."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from collector.archive.compression import Out

_TAIL = 8 * 1024
"""Bytes at the end of a file that hold its key-value metadata."""
_T = TypeVar("_T")


class ParquetFile:
    """Passes bytes on. An exception in it would be a panic in Arrow, so it is kept, and raised by `finish`."""

    def __init__(self, out: Out, metadata: Mapping[str, str]) -> None:
        self._out = out
        self._metadata = metadata
        self._tail = bytearray()
        self.error: Exception | None = None

    def guarded(self, batches: Iterator[_T]) -> Iterator[_T]:
        """Yield the batches, and end at an error."""
        try:
            yield from batches
        except Exception as error:  # noqa: BLE001 - it is raised when Arrow has returned
            self.error = error

    def write(self, data: bytes) -> int:
        """Write bytes; after an error do nothing."""
        self._tail += data
        self._put(len(self._tail) - _TAIL)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Arrow asks whether there is such a method, and never calls it."""
        raise NotImplementedError

    def flush(self) -> None:
        """Arrow calls it at the end."""

    def finish(self) -> None:
        """Write the end of the file. Raises the first error."""
        self._tail[:] = in_order(bytes(self._tail), self._metadata)
        self._put(len(self._tail))
        if self.error is not None:
            raise self.error

    def _put(self, size: int) -> None:
        if size > 0 and self.error is None:
            try:
                self._out.write(bytes(self._tail[:size]))
            except Exception as error:  # noqa: BLE001 - it is raised when Arrow has returned
                self.error = error
        del self._tail[: max(0, size)]


def in_order(tail: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put the key-value metadata at the end of a file into its order; Arrow writes it in a random one."""
    encoded = [_string(name) + _string(value) + b"\0" for name, value in metadata.items()]
    for order in permutations(encoded):
        found = b"".join(order)
        if found in tail:
            return tail.replace(found, b"".join(encoded))
    return tail


def _string(text: str) -> bytes:
    """Return a field of text in the compact protocol of Thrift, one field behind the last one."""
    content = text.encode()
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return b"\x18" + bytes(length) + content
