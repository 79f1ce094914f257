"""Compression: bytes of blocks in while the blocks are filled, compressed bytes out, in bounded memory. Pure.

A context of zstd or gzip takes up to a MiB. So only a few blocks are compressed as they are filled; the bytes of all
others are held in pieces, which one context compresses in turns, and go through a context of their own at the end.
Either way a block has the same bytes.
"""

from __future__ import annotations

from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Protocol

import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTEXTS = 16
"""Blocks that are compressed while they are filled."""
PIECE = 64 * 1024
"""Bytes that a context gets at once, so that its output does not depend on how a block was filled."""
_HELD_PIECE = 32 * 1024
"""Bytes that a held block has uncompressed."""
_GZIP = 31
"""zlib's number for a gzip header without a time and a name."""


class Compression(StrEnum):
    """How a block is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    SNAPPY = "snappy"

    @property
    def suffix(self) -> str:
        """The end of the name of a file, with its dot."""
        return {"none": "", "gzip": ".gz", "zstd": ".zst", "snappy": ".sz"}[self]


class Out(Protocol):
    """Where the bytes of a block go: memory, or a file of a spool."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""


class Compressed(Out, Protocol):
    """The stream of one block, which compresses."""

    def finish(self) -> None:
        """Write everything that is left. The block is complete then."""

    def drop(self) -> None:
        """Give back what is held. The block is not written."""


class _Context(Protocol):
    """Compresses one block after the other."""

    def begin(self) -> None: ...
    def add(self, piece: bytes | memoryview, /) -> bytes: ...
    def end(self) -> bytes: ...


class _Zstd:
    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor(level=1)

    def begin(self) -> None:
        self._block = self._compressor.compressobj()

    def add(self, piece: bytes | memoryview) -> bytes:
        return self._block.compress(piece)

    def end(self) -> bytes:
        return self._block.flush()


class _Gzip:
    def __init__(self) -> None:
        from isal import isal_zlib  # noqa: PLC0415 - it needs the extra, as snappy does; zstd is part of the service

        self._compressobj = isal_zlib.compressobj

    def begin(self) -> None:
        self._block = self._compressobj(level=1, wbits=_GZIP)

    def add(self, piece: bytes | memoryview) -> bytes:
        return self._block.compress(piece)

    def end(self) -> bytes:
        return self._block.flush()


class _Snappy:
    def __init__(self) -> None:
        from cramjam import snappy  # noqa: PLC0415 - see `_Gzip`

        self._compressor = snappy.Compressor

    def begin(self) -> None:
        self._block = self._compressor()

    def add(self, piece: bytes | memoryview) -> bytes:
        self._block.compress(bytes(piece))
        return bytes(self._block.flush())

    def end(self) -> bytes:
        return bytes(self._block.finish())


_CONTEXTS: dict[Compression, Callable[[], _Context]] = {
    Compression.GZIP: _Gzip,
    Compression.ZSTD: _Zstd,
    Compression.SNAPPY: _Snappy,
}


class Packing:
    """Compresses the open blocks of a capture, many at a time."""

    def __init__(self, compression: Compression, spool: Callable[[], BinaryIO] = BytesIO) -> None:
        """Compress; what is held meanwhile is in files that `spool` opens. Raises ImportError without the extra."""
        self.suffix = compression.suffix
        self._make = _CONTEXTS.get(compression)
        self._free = CONTEXTS
        self._idle: list[_Context] = [] if self._make is None else [self._make()]
        self._holding = Holding(spool)

    def open(self, out: Out) -> Compressed:
        """Begin a block."""
        if self._make is None:
            return _Plain(out)
        if not self._free:
            return _Later(self, out, self._holding.open())
        self._free -= 1
        return _Now(self, out)

    def take(self) -> _Context:
        """Return a context that has begun a block."""
        assert self._make is not None  # noqa: S101 - for the type checker
        context = self._idle.pop() if self._idle else self._make()
        context.begin()
        return context

    def give_back(self, context: _Context, *, counted: bool) -> None:
        """Keep a context for a later block."""
        self._free += counted
        if len(self._idle) < CONTEXTS:
            self._idle.append(context)


class _Plain:
    """A block that is not compressed."""

    def __init__(self, out: Out) -> None:
        self.write = out.write

    def finish(self) -> None:
        """See `Compressed`."""

    def drop(self) -> None:
        """See `Compressed`."""


class _Now:
    """A block that is compressed as it is filled, in pieces of one size."""

    def __init__(self, packing: Packing, out: Out, *, counted: bool = True) -> None:
        self._packing = packing
        self._out = out
        self._context = packing.take()
        self._counted = counted
        self._rest: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """See `Compressed`."""
        self._rest.append(data)
        self._size += len(data)
        if self._size >= PIECE:
            self._add_pieces()

    def _add_pieces(self) -> None:
        held = memoryview(b"".join(self._rest))
        whole = self._size - self._size % PIECE
        for start in range(0, whole, PIECE):
            self._put(self._context.add(held[start : start + PIECE]))
        self._rest = [bytes(held[whole:])]
        self._size -= whole

    def finish(self) -> None:
        """See `Compressed`."""
        if self._size:
            self._put(self._context.add(b"".join(self._rest)))
        self._put(self._context.end())
        self.drop()

    def drop(self) -> None:
        """See `Compressed`."""
        self._packing.give_back(self._context, counted=self._counted)

    def _put(self, data: bytes) -> None:
        if data:
            self._out.write(data)


class _Later:
    """A block that is held until it is complete."""

    def __init__(self, packing: Packing, out: Out, held: Held) -> None:
        self._packing = packing
        self._out = out
        self._held = held
        self.write = held.write

    def finish(self) -> None:
        """See `Compressed`."""
        compressed = _Now(self._packing, self._out, counted=False)
        for piece in self._held.pieces():
            compressed.write(piece)
        compressed.finish()

    def drop(self) -> None:
        """See `Compressed`."""
        self._held.drop()


class Holding:
    """Holds the bytes of blocks that are not complete. All of them share one context."""

    def __init__(self, spool: Callable[[], BinaryIO] = BytesIO) -> None:
        self._spool = spool
        self._compress = zstandard.ZstdCompressor(level=1).compress
        self._decompress = zstandard.ZstdDecompressor().decompress

    def open(self) -> Held:
        """Begin a block."""
        return Held(self._spool(), self._compress, self._decompress)


class Held:
    """The bytes of one block, in compressed pieces."""

    def __init__(
        self, file: BinaryIO, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]
    ) -> None:
        self._file = file
        self._compress = compress
        self._decompress = decompress
        self._rest: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Hold bytes."""
        self._rest.append(data)
        self._size += len(data)
        if self._size >= _HELD_PIECE:
            self.add(b"".join(self._rest))
            self._rest.clear()
            self._size = 0

    def add(self, piece: bytes) -> None:
        """Hold bytes that come back as one piece."""
        compressed = self._compress(piece)
        self._file.write(len(compressed).to_bytes(4))
        self._file.write(compressed)

    def pieces(self) -> Iterator[bytes]:
        """Yield all bytes in order, once; nothing is held then."""
        self._file.seek(0)
        while length := self._file.read(4):
            yield self._decompress(self._file.read(int.from_bytes(length)))
        if self._rest:
            yield b"".join(self._rest)
        self.drop()

    def drop(self) -> None:
        """Hold nothing any more."""
        self._file.close()
        self._rest.clear()
