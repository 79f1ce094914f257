"""Decoders of the project's entries, of plain JSON, and of messages as they came: a message in, its rows out. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from collector.archive.checked import NULL, check_body, describe, may_be_deep, one_line, to_json
from collector.archive.rows import Row, rfc_3339
from collector.decoding.content import NO_CONTENT, Contents
from collector.decoding.envelope import (
    JSON_FORM,
    MSGPACK_FORM,
    UTC_EPOCH,
    Encoded,
    Form,
    read_envelope,
    read_identity,
    readable_identity,
    without_mark,
)
from collector.decoding.headers import field, first_published_ns, headers
from collector.decoding.inflate import inflate
from collector.decoding.timestamps import read_timestamp
from collector.decoding.unpacking import sources_of
from collector.decoding.weight import MAX_VALUES, MAX_WEIGHT, check_values
from collector.errors import Poison
from collector.model import Delivery, Reason, Rejected
from transfer.wire import CONTENT_ENCODING, MAX_INFLATED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bson import ObjectId

    from collector.decoding.content import Origin
    from collector.decoding.identity import Incarnation

_Unpacked: TypeAlias = "tuple[Form, Sequence[Encoded], bool, Origin]"


class _Body(msgspec.Struct, gc=False):
    """The envelope of an entry in JSON, whose parts are passed over."""

    data: msgspec.Raw
    timestamp: msgspec.Raw = NULL
    metadata: msgspec.Raw = NULL
    id: msgspec.Raw = NULL


_body = msgspec.json.Decoder(_Body).decode
_any_json = msgspec.json.Decoder(msgspec.Raw).decode
_value = msgspec.json.Decoder().decode
_moment = msgspec.json.Decoder(datetime).decode
_encode = msgspec.json.Encoder().encode
_OWN_TIME, _OWN_ID = b"\xa9timestamp\xd7\xff", b"\xa2id\xc4\x0c"
_OWN_END = len(_OWN_TIME) + 8 + len(_OWN_ID) + 12
"""Bytes of time and id, with which an entry of our client ends."""
_UNREADABLE = (ValueError, RecursionError)
_BRACE = ord("{")
_SHORT, _LONG = len('"2026-01-02T03:04:05.678Z"'), len('"2026-01-02T03:04:05.678901Z"')
_T, _Z = b"TZ"


class Entries:
    """Decodes the project's entries, in each of their forms, as the collector does. Each entry is a row."""

    def __init__(self, incarnation: Incarnation, max_inflated: int = MAX_INFLATED) -> None:
        self._incarnation = incarnation
        self._max_inflated = max_inflated
        self._contents = Contents()

    def __call__(self, message: Delivery) -> list[Row | Rejected]:
        """Return the rows and the dead letters of a message. Raises Poison when the message cannot be unpacked."""
        rows: list[Row] = []
        rejects: list[Rejected] = []
        self.read_into(rows, rejects, message)
        return [*rows, *rejects]

    def read_into(self, rows: list[Row], rejects: list[Rejected], message: Delivery) -> None:
        """Add the rows and the dead letters of a message. Raises Poison when the message cannot be unpacked."""
        body = message.body
        if not message.raw_headers and body.startswith(b"{"):  # the usual message of a foreign client
            unpacked: _Unpacked = JSON_FORM, (body,), False, self._incarnation
        else:
            unpacked = self._unpack(message)
        form, sources, bundled, origin = unpacked
        read = _of_msgpack if form is MSGPACK_FORM else _of_json
        for number, source in enumerate(sources):
            position = number if bundled else None
            try:
                rows.append(_row(message, origin, position, *read(source, form)))
            except Poison as poison:
                identity = readable_identity(form, source) or origin.identity(message.sequence, position)
                original = bytes(source) if bundled else body
                rejects.append(Rejected(message, position, identity, poison.reason, poison.error, original))

    def _unpack(self, message: Delivery) -> _Unpacked:
        """Return form and bytes of the entries, whether they are in a bundle, and their origin. Raises Poison."""
        content = self._contents.read(message.raw_headers)
        form, sources, bundled = sources_of(message.body, content, self._max_inflated)
        return form, sources, bundled, content.origin(self._incarnation)

    def identity(self, message: Delivery) -> ObjectId:
        """Return the identity of the dead letter of a message that cannot be unpacked."""
        content = self._contents.readable(message.raw_headers) or NO_CONTENT
        return content.origin(self._incarnation).identity(message.sequence)


def _row(  # noqa: PLR0917 - by keyword it would cost 50 ns for each entry
    message: Delivery,
    origin: Origin,
    position: int | None,
    data: msgspec.Raw,
    metadata: msgspec.Raw,
    timestamp: str | None,
    claimed: object,
) -> Row:
    """Return the row of an entry. Raises Poison."""
    if claimed is None:
        identity = origin.hexadecimal(message.sequence, position)
    else:
        identity = claimed.hex() if type(claimed) is bytes and len(claimed) == 12 else str(read_identity(claimed))
    if timestamp is None:
        timestamp = rfc_3339(_published(message))
    return Row(message, "", data, metadata, timestamp, position or 0, identity)


def _of_json(source: Encoded, form: Form) -> tuple[msgspec.Raw, msgspec.Raw, str | None, object]:
    """Return data, metadata, timestamp and id of an entry in JSON; the first two stay as they came. Raises Poison."""
    if len(source) > MAX_VALUES and form.ceiling((source,)) > MAX_WEIGHT:  # a value takes a byte
        check_values(source, json=True)
    if form is not JSON_FORM:
        source = without_mark(source)
    try:
        body = _body(source)
    except _UNREADABLE as error:
        raise Poison(Reason.MALFORMED, f"JSON: {describe(error)}") from error
    check_body(source)
    data, metadata = body.data, body.metadata
    if 10 in source or 13 in source:
        data, metadata = one_line(data), one_line(metadata)
    if bytes(data)[0] != _BRACE:
        raise Poison(Reason.MALFORMED, "JSON: expected `object` - at `$.data`")
    claimed = None if body.id is NULL else _value(body.id)
    return data, metadata, None if body.timestamp is NULL else _time_in_json(bytes(body.timestamp)), claimed


def _time_in_json(encoded: bytes) -> str | None:
    """Return a time as `rfc_3339` writes it; None for null. One that is written so already stays. Raises Poison."""
    length = len(encoded)
    if length == _SHORT or (length == _LONG and encoded[24:27] != b"000"):
        try:
            if encoded[11] == _T and encoded[-2] == _Z and _moment(encoded).year > 1:
                return encoded[1:-1].decode()
        except ValueError:
            pass  # it is a leap second, or no time
    moment = read_timestamp(_value(encoded))
    return None if moment is None else rfc_3339(moment.replace(tzinfo=None))


def _of_msgpack(source: Encoded, form: Form) -> tuple[msgspec.Raw, msgspec.Raw, str | None, object]:
    """Return data, metadata, timestamp and id of an entry in msgpack. Raises Poison."""
    source = bytes(source)
    envelope = read_envelope(form, source)
    moment, metadata = envelope.timestamp, envelope.metadata
    timestamp = None if moment is None else rfc_3339(moment)
    rest = len(source) - _OWN_END
    if source.find(_OWN_TIME) != rest or source.find(_OWN_ID, rest) != rest + len(_OWN_TIME) + 8:
        rest = len(source)
    # nothing that msgspec writes in another way than we: 0x7f and 0xff are in times, and in what is no number
    if source.find(b"\x7f", 0, rest) < 0 and source.find(b"\xff", 0, rest) < 0:
        try:
            data = _encode(envelope.data)
            held = _encode(metadata)
        except (TypeError, *_UNREADABLE):
            pass  # it is named below
        else:
            if not may_be_deep(data) and not may_be_deep(held):
                return msgspec.Raw(data), msgspec.Raw(held), timestamp, envelope.id
    return to_json(envelope.data), to_json(metadata), timestamp, envelope.id


def _published(message: Delivery) -> datetime:
    return UTC_EPOCH + timedelta(microseconds=first_published_ns(message) // 1000)


class PlainJson:
    """Decodes bodies that are one JSON value each, of a foreign stream. The value is the `data` of its row."""

    def __init__(self, incarnation: Incarnation, max_inflated: int = MAX_INFLATED) -> None:
        self._incarnation = incarnation
        self._max_inflated = max_inflated

    def __call__(self, message: Delivery) -> list[Row]:
        """Return the row of a message. Raises Poison."""
        rows: list[Row] = []
        self.read_into(rows, [], message)
        return rows

    def read_into(self, rows: list[Row], rejects: list[Rejected], message: Delivery) -> None:  # noqa: ARG002
        """Add the row of a message. Raises Poison."""
        source: Encoded = message.body
        if message.raw_headers:
            encoding = field(headers(message.raw_headers), CONTENT_ENCODING)
            source = inflate(message.body, encoding, self._max_inflated)
        source = without_mark(source)
        try:
            value = _any_json(source)
        except _UNREADABLE as error:
            raise Poison(Reason.MALFORMED, f"JSON: {describe(error)}") from error
        check_body(source)
        if 10 in source or 13 in source:
            value = one_line(value)
        rows.append(Row(message, data=value, id=self._incarnation.hexadecimal(message.sequence)))


class AsItCame:
    """Decodes nothing: each message is one row, for the format `raw`."""

    def __call__(self, message: Delivery) -> list[Row]:
        """Return the row of a message."""
        return [Row(message)]

    def read_into(self, rows: list[Row], rejects: list[Rejected], message: Delivery) -> None:  # noqa: ARG002
        """Add the row of a message."""
        rows.append(Row(message))
