"""Blocks of an archive in the memory of a test: messages in, bytes of files out, and the rows that are in them."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

import cramjam
import msgspec
import pyarrow.parquet
import zstandard

from collector.archive.formats import About
from collector.archive.rows import Reading
from collector.model import Delivery
from tests.support.wire_bytes import INCARNATION, PUBLISHED_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from collector.archive.formats import Format
    from collector.archive.rows import Decoder, Row

ABOUT = About("orders", 3, 1, 99)


def _of_zstd(data: bytes) -> bytes:
    """Inflate one whole frame; zstandard itself says nothing of a frame without its end."""
    inflating = zstandard.ZstdDecompressor().decompressobj()
    inflated = inflating.decompress(data)
    if not inflating.eof or inflating.unused_data:
        raise EOFError("expected one whole frame of zstd")
    return inflated


INFLATE: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.decompress,
    "zst": _of_zstd,
    "sz": lambda data: bytes(cramjam.snappy.decompress(data)),
}


def message(body: bytes, sequence: int = 1, *, raw_headers: bytes = b"", subject: str = "shop.orders") -> Delivery:
    """Return a delivery with a reply subject as nats-server makes it."""
    reply = f"$JS.ACK.ORDERS.cap.1.{sequence}.{sequence}.{PUBLISHED_NS + sequence}.0"
    return Delivery(subject, reply, body, raw_headers, "ORDERS", sequence, 1, PUBLISHED_NS + sequence)


def messages(bodies: Iterable[bytes]) -> list[Delivery]:
    return [message(body, sequence) for sequence, body in enumerate(bodies, 1)]


def rows_of(decoder: Decoder, received: Sequence[Delivery]) -> list[Row]:
    """Return the rows of messages of which none is a dead letter."""
    read = Reading(decoder, INCARNATION).read(received)
    assert read.rejects == []
    return read.rows


def block(form: Format, rows: Sequence[Row], chunk: int = 250, out: io.BytesIO | None = None) -> bytes:
    """Return the bytes of a block."""
    out = io.BytesIO() if out is None else out
    writer = form.open(out)
    for start in range(0, len(rows), chunk):
        writer.write(rows[start : start + chunk])
    writer.finish(ABOUT)
    return out.getvalue()


def inflated(form: Format, content: bytes) -> bytes:
    """Undo the compression that the name of a block says."""
    return INFLATE.get(form.suffix.rpartition(".")[2], bytes)(content)


def lines_in(form: Format, content: bytes) -> list[dict[str, Any]]:
    """Return the objects of a block of NDJSON."""
    return [msgspec.json.decode(line) for line in inflated(form, content).splitlines()]


def parquet_in(content: bytes) -> list[dict[str, Any]]:
    """Return the rows of a block of Parquet."""
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    return rows
