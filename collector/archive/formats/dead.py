"""Dead letters of a cut: one JSON object for each message or entry that could not be made a row. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from collector.archive.formats.facts import headers_of
from collector.archive.formats.raw import headers_in_base64
from collector.archive.times import time_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.compression import Compressed
    from collector.model import Rejected

SUFFIX = "ndjson"


class _Letter(msgspec.Struct, gc=False, omit_defaults=True):
    """A dead letter, with the names that it has in MongoDB too."""

    _id: str
    reason: str
    error: str
    subject: str
    stream: str
    sequence: int
    entry: int | None
    deliveries: int
    time: str
    headers: list[tuple[str, str]]
    body: bytes
    """In base64: the original bytes of the entry, or of the whole message."""
    headers_base64: bytes | None = None


def write_letters(out: Compressed, rejects: Sequence[Rejected]) -> None:
    """Write dead letters as lines."""
    out.write(msgspec.json.Encoder().encode_lines([_letter(reject) for reject in rejects]))


def _letter(reject: Rejected) -> _Letter:
    message = reject.delivery
    return _Letter(
        str(reject.identity),
        reject.reason.value,
        reject.error.encode(errors="backslashreplace").decode(),
        message.subject,
        message.stream,
        message.sequence,
        reject.position,
        message.num_delivered,
        time_text(message.published_ns),
        headers_of(message),
        reject.body,
        headers_in_base64(message),
    )
