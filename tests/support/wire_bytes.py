"""Entries and messages in bytes, written by hand from the msgpack specification and from what the Go client sends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.model import Decoded, Delivery, Entry, Rejected

INCARNATION = Incarnation("beta:logs:system", "2024-05-06T07:08:09Z")
CODEC = Codec(INCARNATION)
PUBLISHED = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
PUBLISHED_NS = 1_714_979_289_123_456_789
SEQUENCE = 7
DERIVED = INCARNATION.identity(SEQUENCE)
BUNDLE = b"Content-Type: application/vnd.transfer.bundle+msgpack"
JSON = b"Content-Type: application/json"
LIMIT = 10 * 1024 * 1024

METADATA, DATA, TIMESTAMP, ID = (
    "a8 6d65746164617461",  # fixstr 8 "metadata"
    "a4 64617461",  # fixstr 4 "data"
    "a9 74696d657374616d70",  # fixstr 9 "timestamp"
    "a2 6964",  # fixstr 2 "id"
)
NIL = "c0"
EMPTY = "80"  # fixmap 0
AT_ONE = "d6 ff 00000001"  # fixext 4, type -1: 1970-01-01T00:00:01Z
DEEP = "81 a161 " * 100_000 + NIL


def short(value: object) -> str:
    """Return a name for a test case whose input may be half a megabyte."""
    return repr(value)[:20]


def delivery(body: bytes, *fields: bytes, sequence: int = SEQUENCE) -> Delivery:
    raw_headers = b"\r\n".join([b"NATS/1.0", *fields, b"", b""]) if fields else b""
    return Delivery("beta.logs.system", "$JS.ACK.x", body, raw_headers, "beta:logs:system", sequence, 1, PUBLISHED_NS)


def go(data: str = EMPTY, timestamp: str = AT_ONE, metadata: str = NIL) -> bytes:
    """Return what the Go client sends: a fixmap of three, in the order of its struct."""
    return bytes.fromhex(f"83 {METADATA} {metadata} {DATA} {data} {TIMESTAMP} {timestamp}")


def decoded(body: bytes, *fields: bytes) -> Decoded:
    return CODEC.decode(delivery(body, *fields))


def entry(body: bytes, *fields: bytes) -> Entry:
    result = decoded(body, *fields)
    assert (len(result.entries), result.rejects) == (1, [])
    return result.entries[0]


def document(body: bytes, *fields: bytes) -> dict[str, Any]:
    """Return the document with its time in UTC, for which the driver takes a time without a zone."""
    found = entry(body, *fields).document
    assert found["timestamp"].tzinfo is None
    return found | {"timestamp": found["timestamp"].replace(tzinfo=UTC)}


def reject(body: bytes, *fields: bytes) -> Rejected:
    result = decoded(body, *fields)
    assert (result.entries, len(result.rejects)) == ([], 1)
    assert result.rejects[0].delivery is result.deliveries[0]
    return result.rejects[0]


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[arg-type,misc]
