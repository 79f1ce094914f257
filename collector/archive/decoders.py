"""Decoders of the project's entries, of plain JSON, and of messages as they came: a message in, its rows out. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count, repeat
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from collector.archive import alike
from collector.archive.checked import NULL, check_body, describe, one_line, to_json
from collector.archive.rows import Row
from collector.archive.times import rfc_3339, texts_to_the_microsecond, time_in_json
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
from collector.decoding.unpacking import sources_of
from collector.decoding.weight import MAX_VALUES, MAX_WEIGHT, check_values
from collector.errors import Poison
from collector.model import Delivery, Reason, Rejected
from transfer.wire import CONTENT_ENCODING, MAX_INFLATED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bson import ObjectId

    from collector.archive.alike import Columns
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
_UNREADABLE = (ValueError, RecursionError)
_BRACE = ord("{")


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

    def read_alike(self, messages: Sequence[Delivery]) -> list[Row] | None:
        """Return the rows of messages of one entry each, all in the same form; None when they are read one by one."""
        content = self._contents.common(messages)
        sources = [message.body for message in messages]
        form = None if content is None else content.form_as_it_came(sources[0])
        columns = _columns(form, sources)
        if columns is None:
            return None
        identities = columns.identities or self._incarnation.hexadecimals([message.sequence for message in messages])
        timestamps = columns.timestamps or texts_to_the_microsecond(list(map(first_published_ns, messages)))
        if None in timestamps:
            published = map(rfc_3339, map(_published, messages))
            timestamps = [own or other for own, other in zip(timestamps, published, strict=True)]
        return list(map(Row, messages, repeat(""), columns.data, columns.metadata, timestamps, repeat(0), identities))

    def read_into(self, rows: list[Row], rejects: list[Rejected], message: Delivery) -> None:
        """Add the rows and the dead letters of a message. Raises Poison when the message cannot be unpacked."""
        form, sources, bundled, origin = self._unpack(message)
        if bundled and (columns := _columns(form, list(map(bytes, sources)))) is not None:
            rows.extend(_rows_of(message, origin, columns))
            return
        read = _of_msgpack if form is MSGPACK_FORM else _of_json
        for number, source in enumerate(sources):
            position = number if bundled else None
            try:
                rows.append(_row(message, origin, position, *read(source, form)))
            except Poison as poison:
                identity = readable_identity(form, source) or origin.identity(message.sequence, position)
                original = bytes(source) if bundled else message.body
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


def _columns(form: Form | None, sources: Sequence[bytes]) -> Columns | None:
    if not sources:
        return None
    if form is MSGPACK_FORM:
        return alike.of_msgpack(sources)
    return alike.of_json(sources) if form is JSON_FORM else None


def _rows_of(message: Delivery, origin: Origin, columns: Columns) -> Iterable[Row]:
    """Return the rows of a bundle."""
    identities = columns.identities or origin.hexadecimals_in(message.sequence, len(columns.data))
    published = rfc_3339(_published(message))
    timestamps = [own or published for own in columns.timestamps or repeat(None, len(columns.data))]
    return map(Row, repeat(message), repeat(""), columns.data, columns.metadata, timestamps, count(), identities)


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
    identity = None if claimed is None else _read_identity(claimed, data)
    if identity is None:
        identity = origin.hexadecimal(message.sequence, position)
    if timestamp is None:
        timestamp = rfc_3339(_published(message))
    return Row(message, "", data, metadata, timestamp, position or 0, identity)


def _read_identity(claimed: object, data: msgspec.Raw) -> str | None:
    """Return the identity that an entry brings. Beside an `_id` in its data any other claim is None. Raises Poison."""
    try:
        return str(read_identity(claimed))
    except Poison:
        if _value(data).get("_id") is None:
            raise
        return None


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
    return data, metadata, None if body.timestamp is NULL else time_in_json(body.timestamp), claimed


def _of_msgpack(source: Encoded, form: Form) -> tuple[msgspec.Raw, msgspec.Raw, str | None, object]:
    """Return data, metadata, timestamp and id of an entry in msgpack. Raises Poison."""
    source = bytes(source)
    envelope = read_envelope(form, source)
    data, metadata = envelope.data, envelope.metadata
    timestamp = None if envelope.timestamp is None else rfc_3339(envelope.timestamp)
    return to_json(data), to_json(metadata), timestamp, envelope.id


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

    def read_alike(self, messages: Sequence[Delivery]) -> list[Row] | None:
        """Return the rows of messages without headers; None when they are read one by one."""
        if any(message.raw_headers for message in messages):
            return None
        values = alike.plain_json([message.body for message in messages])
        if values is None:
            return None
        identities = self._incarnation.hexadecimals([message.sequence for message in messages])
        return list(map(Row, messages, repeat(""), values, repeat(NULL), repeat(None), repeat(0), identities))

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

    def read_alike(self, messages: Sequence[Delivery]) -> list[Row]:
        """Return the rows of messages."""
        return list(map(Row, messages))

    def read_into(self, rows: list[Row], rejects: list[Rejected], message: Delivery) -> None:  # noqa: ARG002
        """Add the row of a message."""
        rows.append(Row(message))
