"""What is published and stored in the benchmark: an access-log entry of a given size, in every form, made cheaply.

All forms of one number are the same entry; `document` is what the collector makes of it, as MongoDB gets it.
"""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import bson

from bench.template import Template
from transfer.entries.entry import encode_entry
from transfer.wire import BUNDLE, CONTENT_TYPE, JSON, MESSAGE_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

BUNDLED = 100
"""Entries in a bundle."""
FIRST = 1 << 40
"""Numbers of entries begin where msgpack, BSON and decimal digits all take the same room for each."""
_STARTED = 1_700_000_000
_NANOSECONDS = 123_456
"""Beyond the millisecond: the Go client and ours send the time to the nanosecond, MongoDB keeps milliseconds."""
_HOSTS = [b"web-%d" % host for host in range(4)]
_SAMPLE = 0x1234567
"""The number of the samples that the templates are cut from."""
_ID = b"\x68\x00\x00\x01benc"
_BUNDLE_HEADER = b"\xdc" + struct.pack(">H", BUNDLED)


class Form(StrEnum):
    """How an entry comes."""

    GO = "go"
    """Single msgpack messages without headers, as the Go client sends them."""
    CLIENT = "client"
    """As our own client sends them: with an id in the entry and as the message id in a header."""
    JSON = "json"
    BUNDLE = "bundle"
    """A hundred in a message."""


def entry_data(size: int, number: int) -> dict[str, Any]:
    """Return the `data` of an entry whose msgpack form has about `size` bytes."""
    data: dict[str, Any] = {"number": FIRST + number, "method": "GET", "status": 200, "bytes": 5321}
    if size >= 300:
        data |= {
            "path": "/api/v1/orders/7719/items",
            "client": "203.0.113.77",
            "seconds": 0.0125,
            "protocol": "HTTP/1.1",
            "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            "referer": "https://shop.example/cart",
        }
    if size > 300:
        frame = "  at orders.items.price (orders.py:217) 100% of it\n"
        data["stack"] = (frame * (size // len(frame) + 1))[: size - 310]
    return data


def _host(number: int) -> bytes:
    return _HOSTS[number & 3]


def _metadata(number: int) -> dict[str, Any]:
    return {"host": _host(number).decode()}


def _number(number: int) -> bytes:
    return struct.pack(">Q", FIRST + number)


def _extension(number: int) -> bytes:
    """Pack the time of an entry as the eight-byte form of msgpack's timestamp: a millisecond more for each."""
    seconds, milliseconds = divmod(number, 1000)
    return struct.pack(">Q", milliseconds * 1_000_000 + _NANOSECONDS << 34 | _STARTED + seconds)


def moment(number: int) -> datetime:
    """Return the time of an entry."""
    return datetime.fromtimestamp(_STARTED, UTC) + timedelta(milliseconds=number)


def _text_of(number: int) -> bytes:
    seconds, milliseconds = divmod(number, 1000)
    return b"%b.%03dZ" % (_text_of_second(seconds), milliseconds)


@cache
def _text_of_second(second: int) -> bytes:
    return moment(second * 1000).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _nanoseconds(number: int) -> int:
    return (_STARTED * 1000 + number) * 1_000_000 + _NANOSECONDS


def entry_id(number: int) -> bytes:
    """Return the id that our own client would have given the entry."""
    return _ID + number.to_bytes(4, "big")


class Traffic:
    """Entries of one size in one form, by number. A message of the bundle form holds its own hundred of them."""

    def __init__(self, form: Form, size: int) -> None:
        self.form = form
        self.size = size
        self.entries_a_message = BUNDLED if form is Form.BUNDLE else 1
        self._of_headers = Template(_headers(form), [entry_id(_SAMPLE).hex().encode()] if _has_id(form) else [])
        self._of_entry = _template(form, size)

    def command(self, subject: bytes, number: int, reply: bytes = b"") -> bytes:
        """Return the protocol bytes that publish message `number`; JetStream confirms it to `reply` when there is one.

        https://docs.nats.io/reference/reference-protocols/nats-protocol
        """
        body = self.body(number)
        address = b"%b %b " % (subject, reply) if reply else b"%b " % subject
        headers = self.headers(number)
        if not headers:
            return b"PUB %b%d\r\n%b\r\n" % (address, len(body), body)
        return b"HPUB %b%d %d\r\n%b%b\r\n" % (address, len(headers), len(headers) + len(body), headers, body)

    def headers(self, number: int) -> bytes:
        """Return the headers of a message as they stand on the wire, empty when there are none."""
        return self._of_headers.fill(entry_id(number).hex().encode()) if _has_id(self.form) else self._of_headers.fill()

    def body(self, number: int) -> bytes:
        """Return the body of a message."""
        match self.form:
            case Form.GO:
                return self._of_entry.fill(_host(number), _number(number), _extension(number))
            case Form.CLIENT:
                return self._of_entry.fill(_host(number), _number(number), _extension(number), entry_id(number))
            case Form.JSON:
                return self._of_entry.fill(_host(number), b"%d" % (FIRST + number), _text_of(number))
            case Form.BUNDLE:
                numbers = range(number * BUNDLED, (number + 1) * BUNDLED)
                fill = self._of_entry.fill
                return _BUNDLE_HEADER + b"".join([fill(_host(n), _number(n), _extension(n)) for n in numbers])


def _has_id(form: Form) -> bool:
    return form in {Form.CLIENT, Form.BUNDLE}


def _headers(form: Form) -> bytes:
    lines = {Form.JSON: [f"{CONTENT_TYPE}: {JSON}"], Form.BUNDLE: [f"{CONTENT_TYPE}: {BUNDLE}"]}.get(form, [])
    if _has_id(form):
        lines.append(f"{MESSAGE_ID}: {entry_id(_SAMPLE).hex()}")
    return "\r\n".join(["NATS/1.0", *lines, "", ""]).encode() if lines else b""


def _template(form: Form, size: int) -> Template:
    number, data, metadata = _SAMPLE, entry_data(size, _SAMPLE), _metadata(_SAMPLE)
    if form is Form.JSON:
        entry = {"metadata": metadata, "data": data, "timestamp": _text_of(number).decode()}
        sample = json.dumps(entry, separators=(",", ":")).encode()
        return Template(sample, [_host(number), b"%d" % (FIRST + number), _text_of(number)])
    entry_own_id = entry_id(number) if form is Form.CLIENT else None
    sample = encode_entry(data, _nanoseconds(number), metadata, entry_own_id)
    holes = [_host(number), _number(number), _extension(number)]
    return Template(sample, [*holes, entry_id(number)] if form is Form.CLIENT else holes)


def documents(size: int, count: int) -> Iterator[bytes]:
    """Make what the collector makes of the entries, encoded: `_id`, `data`, `timestamp`, `metadata`."""
    document = {**entry_data(size, _SAMPLE), "_id": bson.ObjectId(entry_id(_SAMPLE))}
    sample = bson.encode(document | {"timestamp": moment(_SAMPLE), "metadata": _metadata(_SAMPLE)})
    pack = struct.Struct("<q").pack
    milliseconds = _STARTED * 1000
    holes = [entry_id(_SAMPLE), pack(FIRST + _SAMPLE), pack(milliseconds + _SAMPLE), _host(_SAMPLE)]
    template = Template(sample, holes)
    for number in range(count):
        yield template.fill(entry_id(number), pack(FIRST + number), pack(milliseconds + number), _host(number))
