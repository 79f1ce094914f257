"""Raw capture: one JSON object a message, with everything that came with it. Nothing is decoded. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

from collector.archive.formats.facts import headers_of
from collector.archive.formats.ndjson import NdjsonWriter
from collector.archive.times import time_text
from collector.flow.receipts import read_reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.compression import Out, Packing
    from collector.archive.rows import Row
    from collector.model import Delivery


class _Record(msgspec.Struct, gc=False, omit_defaults=True):
    """A message. The names are those of its facts in JetStream."""

    stream: str
    consumer: str | None
    subject: str
    reply: str
    stream_sequence: int
    consumer_sequence: int | None
    deliveries: int
    time: str
    headers: list[tuple[str, str]]
    data: str | None = None
    data_base64: bytes | None = None
    """The body, where text was asked for and it is none."""
    headers_base64: bytes | None = None
    """The unchanged header block, where it is not UTF-8."""


class Raw:
    """Makes blocks of raw records. See `Format`."""

    def __init__(self, packing: Packing, *, text: bool = False) -> None:
        """Write bodies in base64, or as text where they are UTF-8."""
        self.suffix = f"ndjson{packing.suffix}"
        self._packing = packing
        self._text = text

    def open(self, out: Out) -> NdjsonWriter:
        """See `Format`."""
        return NdjsonWriter(self._packing.open(out), self._records)

    def _records(self, rows: Sequence[Row]) -> list[_Record]:
        return [_record(row.message, text=self._text) for row in rows]


def _record(message: Delivery, *, text: bool) -> _Record:
    consumer, consumer_sequence = _consumer(message.reply)
    body = _text(message.body) if text else None
    record = _Record(
        message.stream,
        consumer,
        message.subject,
        message.reply,
        message.sequence,
        consumer_sequence,
        message.num_delivered,
        time_text(message.published_ns),
        headers_of(message),
    )
    if text and body is None:
        record.data_base64 = message.body
    else:
        record.data = base64.b64encode(message.body).decode() if body is None else body
    record.headers_base64 = headers_in_base64(message)
    return record


def headers_in_base64(message: Delivery) -> bytes | None:
    """Return the unchanged header block of a message when it is not UTF-8, and so cannot be pairs of text."""
    return message.raw_headers if _text(message.raw_headers) is None else None


def _consumer(reply: str) -> tuple[str | None, int | None]:
    """Return the durable that delivered a message, and its number there; None when the message was read without one."""
    try:
        _, (_, _, number, *_) = read_reply(reply)
    except ValueError:
        return None, None
    tokens = reply.split(".")
    return tokens[5 if len(tokens) >= 11 else 3], int(number)


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None
