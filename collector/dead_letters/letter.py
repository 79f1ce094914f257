"""The fields of a dead letter, in MongoDB and in files: those of docs/design.md 2. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from collector.decoding.headers import attempt, first_published_ns, headers

if TYPE_CHECKING:
    from collector.model import Rejected

MOST_INLINE = 8 * 1024 * 1024
"""Bytes of body and headers that a document of at most 16 MiB holds itself; a larger body goes to GridFS."""
FEW_HEADERS = 64 * 1024
"""Bytes of headers that are kept as pairs, which take up to ten times their size; more bytes are kept as one block."""


def letter_of(reject: Rejected, now: float) -> dict[str, Any]:
    """Return the letter of a reject, with its body in it."""
    delivery = reject.delivery
    attempted = attempt(delivery.raw_headers)
    letter = {
        "_id": reject.identity,
        "body": reject.body,
        "body_file": None,
        "headers": _readable(delivery.raw_headers),
        "reason": reject.reason.value,
        "error": reject.error.encode(errors="backslashreplace").decode(),
        "subject": delivery.subject,
        "stream": delivery.stream,
        "sequence": delivery.sequence,
        "entry": reject.position,
        "deliveries": delivery.num_delivered,
        "published_at": datetime.fromtimestamp(first_published_ns(delivery) / 1e9, UTC),
        "failed_at": datetime.fromtimestamp(now, UTC),
    }
    return letter if attempted == 1 else letter | {"attempt": attempted}


def _readable(raw_headers: bytes) -> list[list[str | bytes]] | bytes:
    """Return the headers as pairs, in order; very many headers are returned as one block."""
    if len(raw_headers) > FEW_HEADERS:
        return raw_headers[:MOST_INLINE]  # no server that keeps to the limits of NATS lets more through
    return [[_plain(name), _plain(value)] for name, value in headers(raw_headers)]


def _plain(value: str) -> str | bytes:
    """Return a header as text when it is UTF-8, else as its bytes."""
    raw = value.encode("latin-1")  # see `collector.decoding.headers`: a character stands for a byte
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
