"""The bytes of a block in, the same without compression out. The compression is told by the first bytes. Pure.

A file that is cut, and one with bytes behind its end, is damaged, although the libraries read both.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Protocol

import zstandard

from collector.errors import BlockDamaged, StoreRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 256 * 1024
_ZSTD_PIECE = 4096
"""Bytes that zstd gets at once: it has no limit for its output, which may be some hundred times as much."""
_MOST = 1024 * 1024
_GZIP = 31
_SNAPPY = b"\xff\x06\x00\x00sNaPpY"
_CHUNK_HEAD = 4
_COMPRESSED, _PLAIN, _FIRST_SKIPPED = 0x00, 0x01, 0x80


class _Inflated(Protocol):
    """The streams of zlib and of zstandard."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


def inflated(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a file in pieces. Raises BlockDamaged."""
    head = file.read(len(_SNAPPY))
    file.seek(0)
    for magic, inflate in _BY_MAGIC.items():
        if head.startswith(magic):
            return filter(None, inflate(file))
    return _pieces(file, _PIECE)


@contextmanager
def of_the_extra(what: str) -> Iterator[None]:
    """Say how to install what a block needs. Raises StoreRefused."""
    try:
        yield
    except ImportError as exc:
        raise StoreRefused(
            f"expected what reads {what} to be installed, but {exc}; install it:"
            " pip install 'transfer-collector[archive]'"
        ) from None


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while piece := file.read(size):
        yield piece


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    inflater = zstandard.ZstdDecompressor().decompressobj()
    for piece in _pieces(file, _ZSTD_PIECE):
        _check_end(inflater)
        try:
            yield inflater.decompress(piece)
        except zstandard.ZstdError as error:
            raise BlockDamaged(f"zstd: {error}") from error
    _check_whole(inflater)


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    with of_the_extra("gzip"):
        from isal import isal_zlib  # noqa: PLC0415 - other blocks are read without it
    bad: type[Exception] = isal_zlib.error  # type: ignore[assignment] # its stubs say less
    inflater = isal_zlib.decompressobj(wbits=_GZIP)
    for piece in _pieces(file, _PIECE):
        _check_end(inflater)
        left = piece
        while left:
            try:
                yield inflater.decompress(left, _MOST)
            except bad as error:
                raise BlockDamaged(f"gzip: {error}") from error
            left = inflater.unconsumed_tail
    _check_whole(inflater)


def _check_end(inflater: _Inflated) -> None:
    if inflater.eof:
        raise BlockDamaged("it goes on behind the end of its compressed content")


def _check_whole(inflater: _Inflated) -> None:
    if inflater.unused_data:
        raise BlockDamaged("it goes on behind the end of its compressed content")
    if not inflater.eof:
        raise BlockDamaged("it ends before its compressed content does")


def _snappy(file: BinaryIO) -> Iterator[bytes]:
    """Inflate one chunk after the other; each has a checksum, and the last one nothing that says so."""
    with of_the_extra("snappy"):
        import cramjam  # noqa: PLC0415 - other blocks are read without it
    file.seek(len(_SNAPPY))
    while head := file.read(_CHUNK_HEAD):
        size = int.from_bytes(head[1:], "little")
        chunk = file.read(size)
        if len(head) < _CHUNK_HEAD or len(chunk) < size:
            raise BlockDamaged("it ends before its compressed content does")
        if head[0] in {_COMPRESSED, _PLAIN}:
            try:
                yield bytes(cramjam.snappy.decompress(_SNAPPY + head + chunk))
            except cramjam.DecompressionError as error:
                raise BlockDamaged(str(error)) from error
        elif head[0] < _FIRST_SKIPPED or head + chunk == _SNAPPY:
            raise BlockDamaged(f"snappy: expected a chunk of content, got one of kind {head[0]:#x}")


_BY_MAGIC: dict[bytes, Callable[[BinaryIO], Iterator[bytes]]] = {
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x1f\x8b": _gzip,
    _SNAPPY: _snappy,
}
