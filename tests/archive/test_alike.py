"""Messages that are read together become the rows that each of them alone becomes, for a few calls an entry."""

from __future__ import annotations

import gzip
import io
import struct
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from bench.entries import Form, Traffic
from collector.archive.compression import Compression, Packing
from collector.archive.decoders import Entries, PlainJson
from collector.archive.formats.csv import Csv
from collector.archive.formats.ndjson import Ndjson
from collector.archive.formats.parquet import Parquet
from collector.archive.keys import by_path
from collector.archive.rows import Reading, Row
from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from tests.support.archiving import message, messages
from tests.support.wire_bytes import INCARNATION
from transfer.ndjson import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from collector.archive.formats import Format
    from collector.archive.rows import Read
    from collector.model import Delivery, Rejected

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
OWN_ID = b"\xff\x7f0123456789"


class OneByOne:
    """A decoder without the way for messages that are alike."""

    def __init__(self, decoder: Any) -> None:
        self.read_into = decoder.read_into
        self.identity = getattr(decoder, "identity", lambda delivery: INCARNATION.identity(delivery.sequence))

    def __call__(self, received: Delivery) -> list[Row]:
        raise NotImplementedError


def facts(read: Read) -> tuple[list[Any], list[Rejected]]:
    rows = [
        (row.message, row.key, bytes(row.data), bytes(row.metadata), row.timestamp, row.position, row.id)
        for row in read.rows
    ]
    return rows, read.rejects


def assert_as_one_by_one(decoder: Any, received: Sequence[Delivery]) -> None:
    key = by_path("metadata.host")
    together = Reading(decoder, INCARNATION, key).read(received)
    assert facts(together) == facts(Reading(OneByOne(decoder), INCARNATION, key).read(received))


def own(moment_ns: int, entry_id: bytes | None = OWN_ID, **more: Any) -> bytes:
    """Return an entry as a client writes it, with a time to the nanosecond."""
    second, rest = divmod(moment_ns, 1_000_000_000)
    time = Ext(-1, struct.pack(">Q", rest << 34 | second) if rest else struct.pack(">I", second))
    entry = {"metadata": {"host": "a"}, "data": {"n": moment_ns % 7}, **more, "timestamp": time}
    return msgspec.msgpack.encode(entry if entry_id is None else entry | {"id": entry_id})


def in_json(**more: Any) -> bytes:
    return msgspec.json.encode({"metadata": {"host": "b"}, "data": {"text": "a 1e999 {"}, **more})


times_ns = st.builds(
    lambda second, rest: second * 1_000_000_000 + rest,
    st.integers(0, 4_000_000_000),
    st.sampled_from((0, 499, 500, 999_499, 999_500, 999_999, 1_000_000, 999_999_499, 999_999_500, 999_999_999))
    | st.integers(0, 999_999_999),
)
texts = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
)
times = texts | st.sampled_from((None, "0001-01-01T00:00:00.000Z", "2024-05-06T23:59:60.000Z", MOMENT, 1.5, "soon"))
identities = st.sampled_from(
    ("65a1b2c3d4e5f60718293a4b", "65A1B2C3D4E5F60718293A4B", "no", None, "65a1b2c3d4e5f607182 3a4b")
)
odd_numbers = (1, -1, 127, 13, 0.1, 1e300, float("nan"), float("-inf"))
scalars: st.SearchStrategy[Any] = st.sampled_from(odd_numbers) | st.sampled_from(
    ("e1234", "ä", "\x7f\x0d", b"\xff\x7f", MOMENT, None, [[]], {})
)
values = st.dictionaries(st.sampled_from(("a", "timestamp", "id")), scalars, max_size=3)
in_msgpack = st.one_of(
    st.builds(own, times_ns),
    st.builds(lambda time, data: own(time, None, data=data), times_ns, values),
    st.builds(lambda time, data: own(time, data=data, metadata=data), times_ns, values),
    st.sampled_from((b"\xc0", b"\x81\xa4data\x05", b"\x81\xa4data\x80")),
)
bodies = st.one_of(
    in_msgpack,
    st.builds(in_json),
    st.builds(lambda time: in_json(timestamp=time), times),
    st.builds(lambda data: in_json(data=data, metadata=data), values),
    st.builds(lambda claimed, time: in_json(id=claimed, timestamp=time), identities, texts),
    st.sampled_from((b"", b"{}", b"{\n}", b'{"data":{"a":1e999}}', b'{"data":{"a":"\xff"}}', b'{"data":5}')),
)
heads = st.sampled_from((b"", b"", b"Nats-Msg-Id: 5", b"Content-Type: application/json", b"Transfer-Content-Time: 5"))


def received_of(found: Sequence[tuple[bytes, bytes]]) -> list[Delivery]:
    headers = [b"NATS/1.0\r\n" + head + b"\r\n\r\n" if head else b"" for _, head in found]
    return [
        message(body, sequence, raw_headers=raw)
        for sequence, ((body, _), raw) in enumerate(zip(found, headers, strict=True), 1)
    ]


@settings(max_examples=80)
@given(st.lists(st.tuples(bodies, heads), min_size=1, max_size=20))
def test_any_messages_become_the_same_rows_together_and_one_by_one(found: list[tuple[bytes, bytes]]) -> None:
    for decoder in (Entries(INCARNATION), PlainJson(INCARNATION)):
        assert_as_one_by_one(decoder, received_of(found))


@settings(max_examples=80)
@given(bodies, heads, st.integers(2, 20))
def test_messages_of_one_kind_become_the_same_rows_together(body: bytes, head: bytes, count: int) -> None:
    for decoder in (Entries(INCARNATION), PlainJson(INCARNATION)):
        assert_as_one_by_one(decoder, received_of([(body, head)] * count))


@settings(max_examples=40)
@given(st.lists(in_msgpack, min_size=1, max_size=9), st.booleans())
def test_the_entries_of_a_bundle_become_the_same_rows_together(found: list[bytes], zipped: bool) -> None:
    bundle = msgspec.msgpack.encode([msgspec.Raw(body) for body in found])
    raw = b"NATS/1.0\r\nContent-Type: application/vnd.transfer.bundle+msgpack\r\n"
    raw += b"Content-Encoding: gzip\r\n\r\n" if zipped else b"\r\n"
    body = gzip.compress(bundle) if zipped else bundle
    read = Reading(Entries(INCARNATION), INCARNATION).read([message(body, raw_headers=raw)])
    alone = [Reading(OneByOne(Entries(INCARNATION)), INCARNATION).read([message(body)]) for body in found]
    assert [(bytes(row.data), row.timestamp) for row in read.rows] == [
        (bytes(row.data), row.timestamp) for one in alone for row in one.rows
    ]
    assert [reject.body for reject in read.rejects] == [reject.body for one in alone for reject in one.rejects]


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize(
    "entry",
    [
        {"data": {"a": 1, "timestamp": MOMENT, "id": OWN_ID}},
        {"data": {"a": 1, "timestamp": MOMENT}},
        {"metadata": {"timestamp": MOMENT, "id": OWN_ID}, "data": {}},
        {"timestamp": MOMENT, "id": OWN_ID, "data": {"timestamp": MOMENT, "id": OWN_ID}},
        {"data": {}, "more": {"timestamp": MOMENT, "id": OWN_ID}},
        {"id": b"another one.", "timestamp": 5, "data": {"timestamp": MOMENT + timedelta(1), "id": OWN_ID}},
        {"data": {"a": Ext(13, struct.pack(">Q", 678_000_000 << 34 | 5))}, "timestamp": MOMENT, "id": OWN_ID},
        {"data": {"a": Ext(13, struct.pack(">I", 5))}},
        {"data": {"a": Ext(13, struct.pack(">Iq", 678_000_000, 5))}},
    ],
)
def test_a_time_is_written_as_the_collector_writes_it_wherever_it_is(entry: dict[str, Any], count: int) -> None:
    received = messages([msgspec.msgpack.encode(entry)] * count)
    rows = Reading(Entries(INCARNATION), INCARNATION).read(received).rows
    (stored,) = Codec(INCARNATION).decode(received[0]).entries
    document = dict(stored.document)
    assert {row.timestamp for row in rows} == {as_json(document.pop("timestamp"))}
    assert rows[0].id == str(document.pop("_id"))
    metadata = document.pop("metadata")
    assert {bytes(row.metadata) for row in rows} == {msgspec.json.encode(as_json(metadata))}
    data = msgspec.json.decode(rows[0].data)
    assert {name: data[name] for name in document} == as_json(document)
    assert len(rows) == count


@pytest.mark.parametrize(
    "time", ["2026-01-02T03:04:05\\u002e6Z", "2026-01-02T03:04:05.6\\u0037Z", "\\u0032026-01-02T03:04:05Z"]
)
def test_a_time_with_an_escape_is_a_time(time: str) -> None:
    body = b'{"data":{},"timestamp":"%b"}' % time.encode()
    for received in (messages([body]), messages([body] * 9)):
        (timestamp,) = {row.timestamp for row in Reading(Entries(INCARNATION), INCARNATION).read(received).rows}
        assert timestamp is not None
        assert timestamp == as_json(datetime.fromisoformat(timestamp))


@pytest.mark.parametrize(
    ("number", "fits"),
    [
        *(
            (text, True)
            for text in ("1e308", "0.1e-999", "9" * 308, "1" * 200 + "e99", "-1.5e+300", "0" + "." + "1" * 300)
        ),
        *((text, False) for text in ("1e309", "-1E+999", "9" * 300 + "e99", "1" * 250 + ".5e60", "9" * 309)),
        *((text, True) for text in ('"e1234"', '"1e999"', '", 1e999"', '"5e4321 is an id"', '"\xe4 e999"')),
    ],
)
def test_a_number_that_no_double_can_hold_is_a_dead_letter(number: str, fits: bool) -> None:
    for body in (b'{"data":{"a":%b}}' % number.encode(), b'{"data":{"a":[5, %b]}}' % number.encode()):
        for received in (messages([body]), messages([body] * 9)):
            read = Reading(Entries(INCARNATION), INCARNATION).read(received)
            assert (len(read.rows), len(read.rejects)) == ((len(received), 0) if fits else (0, len(received)))


@settings(max_examples=10)
@given(st.lists(st.integers(1, (1 << 64) - 1) | st.integers(1, 1 << 41), max_size=20), st.text(max_size=9))
def test_identities_that_are_made_together_are_the_same(sequences: list[int], created: str) -> None:
    incarnation = Incarnation("ORDERS", created)
    assert incarnation.hexadecimals(sequences) == [str(incarnation.identity(sequence)) for sequence in sequences]
    for sequence in sequences:
        for count in (0, 3, 70_000 if sequence == sequences[0] else 1):
            bundled = [str(incarnation.identity(sequence, position)) for position in range(count)]
            assert incarnation.hexadecimals_in(sequence, count) == bundled


# --- what an entry costs, counted in calls: the same on every machine, however busy it is

ENTRIES = 1000
MOST = {
    (Form.JSON, "ndjson"): 0.5,
    (Form.CLIENT, "ndjson"): 1.5,
    (Form.GO, "ndjson"): 0.5,
    (Form.BUNDLE, "ndjson"): 1.4,
    (Form.JSON, "parquet"): 0.9,
    (Form.JSON, "csv"): 7.1,
}
"""Calls for each entry, a tenth more than were counted."""
FORMATS: dict[str, Callable[[], Format]] = {
    "ndjson": lambda: Ndjson(Packing(Compression.ZSTD)),
    "parquet": Parquet,
    "csv": lambda: Csv(Packing(Compression.ZSTD)),
}


@pytest.mark.parametrize(("form", "name"), MOST)
def test_an_entry_costs_no_more_calls_than_it_did(form: Form, name: str) -> None:
    traffic, calls = Traffic(form, 300), 0
    numbers = range(ENTRIES // traffic.entries_a_message)
    received = [message(traffic.body(one), one + 1, raw_headers=traffic.headers(one)) for one in numbers]
    reading, writer = Reading(Entries(INCARNATION), INCARNATION), FORMATS[name]().open(io.BytesIO())
    step = max(1, 250 // traffic.entries_a_message)

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    rows = 0
    sys.setprofile(count)
    try:
        for start in range(0, len(received), step):
            read = reading.read(received[start : start + step])
            writer.write(read.rows)
            rows += len(read.rows)
    finally:
        sys.setprofile(None)
    writer.drop()
    print(f"{form} in {name}: {calls / ENTRIES:.2f} calls for each entry")  # noqa: T201 - figures
    assert rows == ENTRIES
    assert calls / ENTRIES <= MOST[form, name]
