"""Compressed messages, and those that only look like one."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from typing import Any

import pytest
import zstandard

from collector.decoding.codec import Codec
from collector.model import Reason
from tests.support.wire_bytes import (
    BUNDLE,
    DERIVED,
    INCARNATION,
    LIMIT,
    decoded,
    delivery,
    document,
    go,
    reject,
    short,
)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-GZip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(b"") + gzip.compress(body[5:])),
        ("zstd", zstandard.compress),
        ("zstd", lambda body: zstandard.compress(body[:5]) + zstandard.compress(body[5:])),
        ("zstd", lambda body: zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(body)),
        ("identity", bytes),
    ],
)
def test_a_compressed_message_is_the_same_entry(encoding: str, compress: Any) -> None:
    body = go("81 a16d a178")
    field = b"content-encoding: " + encoding.encode()
    assert document(compress(body), field) == document(body)
    as_json = b'{"data": {"m": "x"}, "timestamp": 1}'
    assert document(compress(as_json), field) == document(body)
    assert len(decoded(compress(b"\x92" + body * 2), field, BUNDLE).entries) == 2


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_exactly_the_limit_is_inflated_and_one_byte_more_is_not(compress: Any) -> None:
    field = b"Content-Encoding: " + (b"gzip" if compress is gzip.compress else b"zstd")
    body = go(f"81 a176 c6 {1_000_000:08x} {'00' * 1_000_000}")
    message = delivery(compress(body), field)
    assert len(Codec(INCARNATION, max_inflated=len(body)).decode(message).entries) == 1
    [too_large] = Codec(INCARNATION, max_inflated=len(body) - 1).decode(message).rejects
    assert (too_large.reason, too_large.body) == (Reason.TOO_LARGE_INFLATED, message.body)


def gzip_bomb() -> bytes:
    """1 GiB of zeros: one mebibyte, compressed and flushed so that it can be repeated."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, wbits=31)
    head = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    again = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return head + again * 1023


def zstd_bomb() -> bytes:
    """1 GiB of zeros in blocks of one repeated byte, by RFC 8878: no size stated, a window of 128 KiB."""
    block = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"\x00"
    return bytes.fromhex("28b52ffd 00 38") + block * 8192


MEASURE = """
import resource, sys
from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.model import Delivery
raw_headers = b"NATS/1.0\\r\\nContent-Encoding: " + sys.argv[1].encode() + b"\\r\\n\\r\\n"
delivery = Delivery("s", "r", sys.stdin.buffer.read(), raw_headers, "s", 1, 1, 0)
codec = Codec(Incarnation("s", "c"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reasons = [reject.reason.value for reject in codec.decode(delivery).rejects]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(*reasons, grown * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", gzip_bomb()), ("zstd", zstd_bomb()), ("zstd", zstandard.compress(bytes(64 << 20)))],
    ids=["gzip", "zstd", "zstd that states its size"],
)
def test_a_zip_bomb_is_a_reject_and_takes_no_more_memory_than_the_limit(encoding: str, bomb: bytes) -> None:
    measured = subprocess.run([sys.executable, "-c", MEASURE, encoding], input=bomb, capture_output=True, check=True)
    reason, grown = measured.stdout.split()
    assert reason == b"too_large_inflated"
    assert int(grown) < LIMIT * 1.25


GZIPPED = gzip.compress(go(), mtime=0)
"""Without the time, which would be in the names of the tests: each worker has to find the same ones."""


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (go(), b"gzip"),
        (go(), b"zstd"),
        (GZIPPED[:-1], b"gzip"),
        (GZIPPED[:12], b"gzip"),
        (GZIPPED + b"rest", b"gzip"),
        (GZIPPED[:-8] + bytes(8), b"gzip"),  # wrong checksum
        (GZIPPED[:10] + b"\xff" * 20, b"gzip"),
        (zstandard.compress(go())[:-1], b"zstd"),
        (zstandard.compress(go())[:7], b"zstd"),
        (zstandard.compress(go()) + b"rest", b"zstd"),
        (b"", b"gzip"),
        (b"", b"zstd"),
        (gzip.compress(b"", mtime=0), b"gzip"),
        (zlib.compress(go()), b"deflate"),
        (gzip.compress(GZIPPED, mtime=0), b"gzip, gzip"),
        (go(), b"br"),
    ],
    ids=short,
)
def test_what_cannot_be_inflated_is_a_reject(body: bytes, encoding: bytes) -> None:
    whole = reject(body, b"Content-Encoding: " + encoding)
    assert (whole.position, whole.reason, whole.identity, whole.body) == (None, Reason.MALFORMED, DERIVED, body)
