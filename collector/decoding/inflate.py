"""Compressed bytes in, inflated bytes out, in bounded memory: the size that the bytes claim is not trusted. Pure."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard

from collector.errors import Poison
from collector.model import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

AS_IT_CAME = frozenset({"", "identity"})
"""Values of Content-Encoding that stand for no compression."""
_PIECE = 64 * 1024
_SMALLEST_WINDOW = 8 * 1024 * 1024
"""Bytes of the window that RFC 8878 asks of every zstd decoder."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def inflate(body: bytes, encoding: str, max_inflated: int) -> bytes | bytearray:
    """Undo one Content-Encoding in memory bounded by `max_inflated`. Raises Poison."""
    if encoding in AS_IT_CAME:
        return body
    if encoding not in _READERS:
        expected = "Content-Encoding: expected gzip or zstd, applied once"
        raise Poison(Reason.MALFORMED, f"{expected}, got {encoding[:80]!r}")
    try:
        return _read(_READERS[encoding](body, max_inflated), max_inflated)
    except (zstandard.ZstdError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Poison(Reason.MALFORMED, f"body: expected {encoding}, got what cannot be inflated: {error}") from error


def _read(reader: _Reader, max_inflated: int) -> bytearray:
    inflated = bytearray()  # grows in place: joining pieces would take the memory twice
    while piece := reader.read(_PIECE):
        inflated += piece
        if len(inflated) > max_inflated:
            raise _too_large(max_inflated)
    return inflated


def _gzip(body: bytes, _max_inflated: int) -> _Reader:
    return gzip.GzipFile(fileobj=io.BytesIO(body))


def _zstd(body: bytes, max_inflated: int) -> _Reader:
    """Read zstd frames. A frame that is cut ends early without an error; decoding its entries raises the error then."""
    if zstandard.frame_content_size(body) > max_inflated:
        raise _too_large(max_inflated)
    window = max(max_inflated, _SMALLEST_WINDOW)  # a frame that states its size may use a window as large
    inflater = zstandard.ZstdDecompressor(max_window_size=window)  # not kept: it keeps its window
    return inflater.stream_reader(body, read_across_frames=True)


_READERS: dict[str, Callable[[bytes, int], _Reader]] = {"gzip": _gzip, "x-gzip": _gzip, "zstd": _zstd}


def _too_large(max_inflated: int) -> Poison:
    return Poison(Reason.TOO_LARGE_INFLATED, f"body: expected at most {max_inflated} bytes inflated, got more")
