"""Rows of entries in, bundles for the stream of a logger out. Pure.

Each entry has its archived identity as its `id`, so the collector stores it under the `_id` that it has or had.
`Transfer-Attempt` makes the collector look it up where the database would take a second copy: in a time-series
collection.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from collector.archive.checked import NULL
from collector.archive.replaying import Place
from collector.archive.rows import ERROR, RAW
from collector.jetstream.window import Outgoing
from transfer.wire import BUNDLE, CONTENT_TYPE, MESSAGE_ID, TRANSFER_ATTEMPT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector.archive.readers import Archived
    from collector.decoding.identity import Incarnation

_MOST = 250
_BYTES = 128 * 1024
"""The size of a bundle from which on no entry is added."""
_AGAIN = "2"
_decode = msgspec.json.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode


class Bundles:
    """Puts entries together into messages."""

    def __init__(self, subject: str, incarnation: Incarnation, replay: str, max_bytes: int) -> None:
        """Publish to a subject messages of at most `max_bytes`; `replay` is unlike that of any other replay.

        JetStream drops a message of the same replay that it has already, and none of another one: the collection may
        have been dropped in between.
        """
        self._subject = subject
        self._incarnation = incarnation
        self._replay = replay
        self._full = min(_BYTES, max_bytes // 2)
        self._bodies: list[bytes] = []
        self._ids: list[bytes] = []
        self._size = 0
        self._place = Place(0, 0, 0)

    def add(self, row: Archived, cut: int) -> Iterator[Outgoing]:
        """Add an entry, and yield the messages that are complete. Raises NotReplayable."""
        identity, body, is_lone = self._entry(row)
        if is_lone or self._size + len(body) > self._full:
            yield from self.rest()
        self._bodies.append(body)
        self._ids.append(identity)
        self._size += len(body)
        self._place = Place(cut, row.sequence, row.position)
        if is_lone or len(self._bodies) >= _MOST:
            yield from self.rest()

    def rest(self) -> Iterator[Outgoing]:
        """Yield the message of the entries that are left."""
        if not self._bodies:
            return
        digest = blake2b(b"".join([self._replay.encode(), *self._ids]), digest_size=12).hexdigest()
        fields = {MESSAGE_ID: digest, TRANSFER_ATTEMPT: _AGAIN}
        body = self._bodies[0]
        if len(self._bodies) > 1:
            fields[CONTENT_TYPE] = BUNDLE
            body = _encode([msgspec.Raw(one) for one in self._bodies])
        lines = ["NATS/1.0", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        yield Outgoing(self._subject, "\r\n".join(lines).encode(), body, len(self._bodies), self._place)
        self._bodies, self._ids, self._size = [], [], 0

    def _entry(self, row: Archived) -> tuple[bytes, bytes, bool]:
        """Return identity and body of an entry, and whether it has to be a message of its own."""
        data = _decode(row.data)
        if not isinstance(data, dict):
            raise NotReplayable("its data is no map, so it is no entry of a logger")
        if row.id is None and data.keys() == {RAW, ERROR}:
            raise NotReplayable("its message could not be decoded when the block was made")
        identity = row.id or self._incarnation.hexadecimal(row.sequence, row.position)
        moment = datetime.fromisoformat(row.timestamp or row.time)
        binary = bytes.fromhex(identity)
        entry: dict[str, Any] = {"metadata": _decode(row.metadata), "data": data, "timestamp": moment, "id": binary}
        try:
            return binary, _encode(entry), False
        except (OverflowError, ValueError):  # a number of more than 64 bits, which only JSON has
            timestamp = row.timestamp or row.time
            metadata = None if bytes(row.metadata) == bytes(NULL) else row.metadata
            whole = {"data": row.data, "metadata": metadata, "timestamp": timestamp, "id": identity}
            return binary, msgspec.json.encode(whole), True


class NotReplayable(Exception):
    """A row is no entry of a logger."""
