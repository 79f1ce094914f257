"""Rows: messages in, rows of an archive and dead letters out, whatever decoder is in between. Pure.

A row is what one entry becomes in a block. Its values are JSON that was checked: one line, UTF-8, and nothing that a
reader refuses. So a format never finds a row that it cannot write.
"""

from __future__ import annotations

import base64
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from bson import ObjectId
from msgspec.structs import force_setattr

from collector.archive.checked import NULL, to_json
from collector.archive.times import rfc_3339
from collector.decoding.timestamps import read_timestamp
from collector.errors import Poison
from collector.model import Delivery, Reason, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from collector.decoding.identity import Incarnation

_FEW = 8
"""Messages that are read one by one when they are not alike."""
RAW, ERROR = "_raw", "_error"
"""The fields of a row that stands for a message which a decoder does not read any more."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of a block. A decoder of a user may give any value for the fields that are checked afterwards."""

    message: Delivery
    key: Any = ""
    """The key of its block, as text."""
    data: Any = NULL
    metadata: Any = NULL
    timestamp: Any = None
    """RFC 3339 in UTC; checked."""
    position: int = 0
    """The position of its entry in a bundle, or of the row among those of its message."""
    id: Any = None
    """The identity of its entry, in hex; checked."""


class Decoder(Protocol):
    """Makes the rows of a message. An exception makes the message a dead letter."""

    def __call__(self, message: Delivery, /) -> Iterable[Row | Rejected]:
        """Return 0..n rows, each with a key. A `Rejected` is a part of the message that is a dead letter."""


class Key(Protocol):
    """Gives the key of the block that a row belongs to."""

    def __call__(self, row: Row, /) -> str:
        """Return the key; without one, an empty text."""


class CheckedDecoder(Protocol):
    """A decoder whose rows need no further check. It exists for speed."""

    def read_alike(self, messages: Sequence[Delivery], /) -> list[Row] | None:
        """Return the rows of messages that are alike and without a fault; None when they have to be read one by one."""

    def read_into(self, rows: list[Row], rejects: list[Rejected], message: Delivery, /) -> None:
        """Add the rows and the dead letters of a message. Raises Poison."""

    def identity(self, message: Delivery, /) -> ObjectId:
        """Return the identity of the dead letter of a whole message."""


@dataclass(slots=True)
class Read:
    """The rows and the dead letters of messages, in their order."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Rejected] = field(default_factory=list)


class Reading:
    """Reads the messages of one stream with a decoder. No method raises, whatever the decoder does."""

    def __init__(self, decoder: Decoder, incarnation: Incarnation, key: Key | None = None) -> None:
        """Read with a decoder; a key function replaces the keys that it gives."""
        self._decoder = decoder
        self._identity = getattr(decoder, "identity", lambda message: incarnation.identity(message.sequence))
        self._key = key
        self._into = getattr(decoder, "read_into", self._check_into)
        self._alike = getattr(decoder, "read_alike", None)

    def read(self, messages: Iterable[Delivery]) -> Read:
        """Return the rows and the dead letters of messages. A message without a key for each row has no row.

        Messages that are alike are the cheapest, some hundreds at once.
        """
        read = Read()
        self._read(read, list(messages))
        return read

    def _read(self, read: Read, messages: list[Delivery]) -> None:
        """Read messages that are all alike at once; else each half of them so, and a few of them one by one."""
        if (rows := self._alike_rows(messages)) is not None:
            read.rows += rows
        elif len(messages) <= _FEW:
            for message in messages:
                self._read_one(read, message)
        else:
            half = len(messages) // 2
            self._read(read, messages[:half])
            self._read(read, messages[half:])

    def _alike_rows(self, messages: list[Delivery]) -> list[Row] | None:
        if self._alike is None or not messages:
            return None
        try:
            rows = self._alike(messages)
            return rows if rows is None or self._key is None else self._with_keys(rows)
        except Exception:  # noqa: BLE001 - it is raised again for the one message that has it
            return None

    def _read_one(self, read: Read, message: Delivery) -> None:
        rows, rejects = read.rows, read.rejects
        first, first_reject = len(rows), len(rejects)
        try:
            self._into(rows, rejects, message)
            if self._key is not None:
                rows[first:] = self._with_keys(rows[first:])
        except Exception as error:  # noqa: BLE001 - a decoder may be anybody's
            del rows[first:], rejects[first_reject:]
            rejects.append(self._reject(message, error))

    def _with_keys(self, rows: list[Row]) -> list[Row]:
        assert self._key is not None  # noqa: S101 - for the type checker
        for row in rows:  # nobody else has them yet
            force_setattr(row, "key", _checked_key(self._key(row)))
        return rows

    def read_again(self, message: Delivery) -> list[Row]:
        """Return the rows of a message that a record names; one that cannot be decoded any more has a raw row."""
        read = self.read([message])
        return read.rows or [raw_row(message, reject.error) for reject in read.rejects[:1]]

    def _check_into(self, rows: list[Row], rejects: list[Rejected], message: Delivery) -> None:
        for place, one in enumerate(self._decoder(message)):
            if isinstance(one, Rejected):
                rejects.append(one)
            else:
                rows.append(_checked(one, message, place))

    def _reject(self, message: Delivery, error: Exception) -> Rejected:
        if isinstance(error, Poison):
            reason, sentence = error.reason, error.error
        else:
            reason, sentence = Reason.MALFORMED, f"decoder: expected rows, got {_describe(error)}"
        return Rejected(message, None, self._identity(message), reason, sentence, message.body)


def raw_row(message: Delivery, error: str) -> Row:
    """Return a row that has a message as it came, and why it could not be decoded."""
    return Row(message, data=to_json({RAW: base64.b64encode(message.body).decode(), ERROR: error}))


def _checked(row: object, message: Delivery, place: int) -> Row:
    """Return a row of a foreign decoder with values that each format can write. Raises Poison."""
    if not isinstance(row, Row):
        raise Poison(Reason.MALFORMED, f"decoder: expected a Row, got `{type(row).__name__}`")
    claimed = row.id
    return Row(
        message,
        _checked_key(row.key),
        _as_value(row.data),
        _as_value(row.metadata),
        None if row.timestamp is None else _text_of(row.timestamp),
        row.position or place,
        None if claimed is None else str(ObjectId(claimed)),
    )


def _checked_key(key: object) -> str:
    if not isinstance(key, str):
        raise Poison(Reason.MALFORMED, f"key: expected text, got `{type(key).__name__}`")
    return key if key.isascii() else key.encode(errors="replace").decode()


def _as_value(value: object) -> msgspec.Raw:
    return to_json(msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value)


def _text_of(timestamp: object) -> str | None:
    if isinstance(timestamp, datetime) and timestamp.tzinfo is None:
        return rfc_3339(timestamp)
    moment = read_timestamp(timestamp)
    return None if moment is None else rfc_3339(moment.replace(tzinfo=None))


def _describe(error: Exception) -> str:
    """Name the error of a decoder and its place; its text may have a payload in it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"`{type(error).__name__}`{where}"
