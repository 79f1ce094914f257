"""Raw messages in, the same messages out: subject, headers with repeats, and data. Pure.

Headers that begin with `Nats-` speak to nats-server, and spoke to it when the message was first published. They are
left out: a rollup would purge the stream, and an id that came again after the duplicate window would be dropped.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from collector.archive.replaying import Place
from collector.decoding.headers import MAX_ATTEMPT, attempt, headers
from collector.decoding.identity import Incarnation
from collector.jetstream.window import Outgoing
from transfer.wire import MESSAGE_ID, TRANSFER_ATTEMPT, TRANSFER_CONTENT_ID, TRANSFER_CONTENT_TIME

if TYPE_CHECKING:
    from collector.archive.readers import Captured

_SERVERS = "nats-"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RawMessages:
    """Makes messages of raw rows."""

    def __init__(self, created: str, replay: str, *, subject: str | None, prefix: str = "") -> None:
        """Publish to `subject`, as entries of a logger, or without one to each message's own with a prefix.

        `created` is the incarnation of the archived stream, and `replay` unlike that of any other replay.
        """
        self._created = created
        self._replay = replay
        self._subject = subject
        self._prefix = prefix

    def message(self, row: Captured, cut: int, *, text: bool) -> Outgoing:
        """Return the message of a row; `text` says whether its block has bodies as text."""
        raw_headers = _raw_headers(row)
        fields = [pair for pair in headers(raw_headers) if not pair[0].lower().startswith(_SERVERS)]
        marks = {MESSAGE_ID: f"{self._replay}-{row.sequence}"}
        if self._subject is not None:
            marks |= self._marks(row, raw_headers, {name.lower() for name, _ in fields})
            fields = [pair for pair in fields if pair[0].lower() != TRANSFER_ATTEMPT.lower()]
        lines = ["NATS/1.0", *(f"{name}: {value}" for name, value in [*marks.items(), *fields]), "", ""]
        encoded = "\r\n".join(lines).encode("latin-1")
        subject = self._subject if self._subject is not None else f"{self._prefix}{row.subject}"
        return Outgoing(subject, encoded, _body(row, text=text), 1, Place(cut, row.sequence, 0))

    def _marks(self, row: Captured, raw_headers: bytes, there: set[str]) -> dict[str, str]:
        """Return the headers by which the collector gives the entries the identity and the time that they had."""
        marks = {TRANSFER_ATTEMPT: str(min(MAX_ATTEMPT, attempt(raw_headers) + 1))}
        if TRANSFER_CONTENT_ID.lower() not in there:
            marks[TRANSFER_CONTENT_ID] = Incarnation(row.stream, self._created).hexadecimal(row.sequence)
        if TRANSFER_CONTENT_TIME.lower() not in there:
            marks[TRANSFER_CONTENT_TIME] = str((datetime.fromisoformat(row.time) - _EPOCH) // timedelta(milliseconds=1))
        return marks


def _body(row: Captured, *, text: bool) -> bytes:
    if row.data_base64 is not None:
        return row.data_base64
    return (row.data or "").encode() if text else base64.b64decode(row.data or "")


def _raw_headers(row: Captured) -> bytes:
    if row.headers_base64 is not None:
        return row.headers_base64
    lines = ["NATS/1.0", *(f"{name}: {value}" for name, value in row.headers), "", ""]
    return "\r\n".join(lines).encode()
