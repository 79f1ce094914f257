"""Messages become rows and dead letters, and no decoder ever reaches the caller with an exception."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from bson import Decimal128, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.decoders import AsItCame, Entries, PlainJson
from collector.archive.keys import by_path, by_subject
from collector.archive.rows import Reading, Row
from collector.decoding.codec import Codec
from collector.model import Delivery, Reason, Rejected
from tests.support.archiving import message, messages
from tests.support.wire_bytes import BUNDLE, INCARNATION, delivery
from transfer.ndjson import as_json, json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from collector.archive.rows import Decoder

ENTRIES = Entries(INCARNATION)
PLAIN = PlainJson(INCARNATION)
DEEP = b"[" * 100_000 + b"]" * 100_000
MOMENT = datetime(2026, 11, 28, 10, tzinfo=UTC)
NESTED = b'{"a":' * 101 + b"1" + b"}" * 101


def read(decoder: Decoder, *received: Delivery) -> tuple[list[Row], list[Rejected]]:
    found = Reading(decoder, INCARNATION).read(received)
    return found.rows, found.rejects


def value(raw: Any) -> Any:
    return msgspec.json.decode(raw)


# --- the project's entries, as the collector reads them

moments = st.one_of(
    st.none(),
    st.datetimes(timezones=st.just(UTC)),
    st.integers(0, 4_000_000_000),
    st.floats(0, 4e9),
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "+02:00"),
    st.tuples(st.integers(0, 4_000_000_000), st.integers(0, 999_999_999)).map(list),
    st.just("2024-05-06T23:59:60Z"),
    st.just("2024-05-06T08:59:59.9999999Z"),
    st.just("0001-01-01T00:00:00Z"),
    st.just("0001-01-01T00:00:00.000Z"),
    st.text(max_size=30),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(),
    st.text(),
    st.binary(max_size=20),
    st.datetimes(timezones=st.just(UTC)),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
entries = st.fixed_dictionaries(
    {"data": st.dictionaries(st.text(max_size=8), values, max_size=5)},
    optional={
        "timestamp": moments,
        "metadata": values,
        "id": st.one_of(st.binary(min_size=12, max_size=12), st.just("65a1b2c3d4e5f60718293a4b"), st.text(max_size=3)),
    },
)


def assert_as_the_collector_reads(received: Delivery) -> None:
    """Compare rows with what the collector stores, as the sink of files would write it."""
    decoded = Codec(INCARNATION).decode(received)
    rows, rejects = read(ENTRIES, received)
    # an entry may hold an `_id` of its own in `data`; the row has the identity, and `data` keeps its `_id`
    assert [(row.position, row.timestamp) for row in rows] == [
        (entry.position or 0, as_json(entry.document["timestamp"])) for entry in decoded.entries
    ]
    for row, entry in zip(rows, decoded.entries, strict=True):
        document = dict(entry.document)
        assert row.id == str(document.pop("_id")) or entry.own_id
        assert value(row.metadata) == value(json_object({"x": document["metadata"]}))["x"]
        own = {name: document[name] for name in value(row.data) if name not in {"timestamp", "metadata", "_id"}}
        assert {name: value(row.data)[name] for name in own} == value(json_object(own))
    assert [(one.position, one.identity, one.reason, one.body) for one in rejects] == [
        (one.position, one.identity, one.reason, one.body) for one in decoded.rejects
    ]


@pytest.mark.parametrize("field", ["data", "metadata"])
@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan, -math.nan, MOMENT, -1, -2.5e300, b"\x7f\xff", "\xff"])
@pytest.mark.parametrize("own", [{}, {"timestamp": MOMENT}, {"timestamp": 1.5}, {"timestamp": MOMENT, "id": b"i" * 12}])
def test_what_json_and_msgpack_have_in_other_forms_is_as_the_collector_reads_it(
    field: str, odd: object, own: dict[str, object]
) -> None:
    entry = {"data": {}, field: {"odd": odd}, **own}
    assert_as_the_collector_reads(delivery(msgspec.msgpack.encode(entry)))


@settings(max_examples=60)
@given(entries)
def test_an_entry_in_msgpack_is_the_row_that_the_collector_reads(entry: dict[str, Any]) -> None:
    assert_as_the_collector_reads(delivery(msgspec.msgpack.encode(entry)))


@settings(max_examples=60)
@given(entries, st.booleans())
def test_an_entry_in_json_is_the_row_that_the_collector_reads(entry: dict[str, Any], indented: bool) -> None:
    body = msgspec.json.encode(entry)
    assert_as_the_collector_reads(delivery(msgspec.json.format(body, indent=2) if indented else body))


@pytest.mark.parametrize("claimed", ["no id", 5, b"1", [], ""])
@pytest.mark.parametrize("data", [{"_id": 5}, {"_id": []}, {"_id": None}, {}])
def test_an_id_that_is_none_is_passed_over_beside_an_id_in_data(data: dict[str, Any], claimed: object) -> None:
    for encode in (msgspec.msgpack.encode, msgspec.json.encode):
        assert_as_the_collector_reads(delivery(encode({"data": data, "id": claimed})))


@settings(max_examples=40)
@given(
    st.lists(st.one_of(entries.map(msgspec.msgpack.encode), st.just(b"\xc0"), st.just(b"\x81\xa1a\x01")), max_size=5)
)
def test_each_entry_of_a_bundle_is_a_row_or_a_dead_letter(bundled: list[bytes]) -> None:
    body = msgspec.msgpack.encode([msgspec.Raw(entry) for entry in bundled])
    assert_as_the_collector_reads(delivery(body, BUNDLE))
    assert_as_the_collector_reads(delivery(gzip.compress(body), BUNDLE, b"Content-Encoding: gzip"))


def test_data_in_json_stays_as_it_was_encoded() -> None:
    data = b'{"b":1.50,"a":"\\u00e4 \xc3\xa4","n":123456789012345678901234567890,"b":2}'
    ((row,), _) = read(ENTRIES, message(b'{"timestamp":0,"data": \n' + data + b"}"))
    assert bytes(row.data) == data


# --- what can never be decoded is a dead letter, and so is what would make a reader refuse the whole file

BAD_JSON = {
    "no JSON": b'{"data":{"a":',
    "NaN": b'{"data":{"a":NaN}}',
    "other bytes": b'{"data":{"a":"\xff"}}',
    "other bytes in a name": b'{"data":{"\xc3\x28":1}}',
    "a surrogate": b'{"data":{"a":"\\ud800 and more"}}',
    "beyond a double": b'{"data":{"a":1e999}}',
    "beyond a double, with a sign": b'{"data":{"a":-1E+400}}',
    "beyond a double, by its digits": b'{"data":{"a":' + b"9" * 400 + b"}}",
    "too deep for msgspec": b'{"data":{"a":' + DEEP + b"}}",
    "too deep for DuckDB": b'{"data":' + NESTED + b"}",
    "more than one value": b'{"data":{}} {"data":{}}',
    "nothing": b"",
    "a BOM within": b'{"data":\xef\xbb\xbf{}}',
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_breaks_readers_is_a_dead_letter(body: bytes) -> None:
    for decoder in (ENTRIES, PLAIN):
        rows, rejects = read(decoder, message(b'{"data":{}}', 1), message(body, 2), message(b'{"data":{}}', 3))
        assert [row.message.sequence for row in rows] == [1, 3]
        assert [(one.delivery.sequence, one.position, one.body) for one in rejects] == [(2, None, body)]


@pytest.mark.parametrize("good", [b'{"a":"1e999 [[[["}', b'{"a":1e22,"b":1e-400}', b'"' + b"[" * 500 + b'"', b"7"])
def test_what_only_looks_like_it_is_a_row(good: bytes) -> None:
    (rows, rejects) = read(PLAIN, message(good))
    assert ([bytes(row.data) for row in rows], rejects) == ([good], [])


def test_deep_values_in_msgpack_are_dead_letters() -> None:
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    for entry in ({"data": {"a": deep}}, {"data": {}, "metadata": deep}):
        _, rejects = read(ENTRIES, message(msgspec.msgpack.encode(entry)))
        assert [reject.reason for reject in rejects] == [Reason.DOCUMENT_INVALID]


def test_a_name_that_json_cannot_hold_is_a_dead_letter() -> None:
    _, rejects = read(ENTRIES, message(bytes.fromhex("81 a464617461 81 a161 81 c0 01")))  # {"data": {"a": {nil: 1}}}
    assert [reject.reason for reject in rejects] == [Reason.DOCUMENT_INVALID]


# --- decoders of users


def test_one_message_of_ten_thousand_that_raises_is_the_one_dead_letter() -> None:
    def decode(received: Delivery) -> Iterator[Row]:
        body = msgspec.json.decode(received.body)
        yield Row(received, body["letter"], body)

    letters = [chr(97 + number % 26) for number in range(10_000)]
    bodies = [b'{"letter":"%b","n":%d}' % (letter.encode(), number) for number, letter in enumerate(letters)]
    bodies[4711] = b'{"secret":"hunter2"}'
    rows, (reject,) = read(decode, *messages(bodies))
    assert len(rows) == 9_999
    assert {row.key for row in rows} == set(letters)
    assert reject.body == bodies[4711]
    assert "`KeyError` at test_rows.py:" in reject.error
    assert "hunter2" not in reject.error


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (b"\x00\xff", "AP8="),
        (datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), "2026-01-02T03:04:05.678901Z"),
        (ObjectId("65a1b2c3d4e5f60718293a4b"), "65a1b2c3d4e5f60718293a4b"),
        (Decimal128("1.5"), "1.5"),
        (Decimal("1.5"), "1.5"),
        (date(2026, 1, 2), "2026-01-02"),
        (1 << 64, 1 << 64),
        ((1 << 64) - 1, (1 << 64) - 1),
        ("half a \ud800", "half a ?"),
        (msgspec.Raw(b'{ "a": 1 }'), {"a": 1}),
    ],
)
def test_every_value_has_the_form_of_the_projects_other_json(given_value: object, expected: object) -> None:
    ((row,), _) = read(lambda received: [Row(received, data=given_value)], message(b""))
    assert value(row.data) == expected


def _endless() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "decode",
    [
        lambda _: 1 / 0,
        lambda _: None,
        lambda _: ["no row"],
        lambda received: [Row(received, key=5)],
        lambda received: [Row(received, data={"a": {None: 1}})],
        lambda received: [Row(received, data=_endless())],
        lambda received: [Row(received, data=msgspec.Raw(b"no json"))],
        lambda received: [Row(received, data=10**400)],
        lambda received: [Row(received, data=10**5000)],
        lambda received: [Row(received, timestamp="yesterday")],
        lambda received: [Row(received, id="no id")],
        lambda received: (Row(received, str(1 // (1 - n))) for n in range(2)),
    ],
)
def test_a_decoder_that_fails_makes_a_dead_letter_of_the_whole_message(decode: Decoder) -> None:
    rows, rejects = read(decode, message(b"body"))
    assert (rows, [reject.body for reject in rejects]) == ([], [b"body"])


def test_a_decoder_may_give_no_rows_and_many_rows() -> None:
    def decode(received: Delivery) -> Iterable[Row]:
        return [Row(received, data=number) for number in range(len(received.body))]

    rows, _ = read(decode, message(b"", 1), message(b"abc", 2))
    assert [(row.message.sequence, row.position) for row in rows] == [(2, 0), (2, 1), (2, 2)]


def test_a_message_that_a_changed_decoder_refuses_at_a_rebuild_is_a_raw_row() -> None:
    def decode(received: Delivery) -> Iterable[Row]:
        raise ValueError

    (row,) = Reading(decode, INCARNATION).read_again(message(b"\xffbody"))
    assert value(row.data)["_raw"] == "/2JvZHk="
    assert "`ValueError`" in value(row.data)["_error"]


# --- keys


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("metadata.host", "web-1"),
        ("user.region", "eu"),
        ("data.user.region", "eu"),
        ("n", "5"),
        ("yes", "true"),
        ("user", ""),
        ("user.region.more", ""),
        ("missing.path", ""),
        ("nothing", ""),
    ],
)
def test_a_key_is_the_value_at_a_path(path: str, key: str) -> None:
    body = b'{"metadata":{"host":"web-1"},"data":{"user":{"region":"eu"},"n":5,"yes":true,"nothing":null}}'
    found = Reading(ENTRIES, INCARNATION, by_path(path)).read([message(body)])
    assert [row.key for row in found.rows] == [key]


@pytest.mark.parametrize(("token", "key"), [(None, "shop.orders.eu"), (1, "shop"), (3, "eu"), (4, "")])
def test_a_key_is_the_subject_or_a_token_of_it(token: int | None, key: str) -> None:
    found = Reading(AsItCame(), INCARNATION, by_subject(token)).read([message(b"", subject="shop.orders.eu")])
    assert [row.key for row in found.rows] == [key]


@pytest.mark.parametrize("path", ["", ".", "a..b", "metadata."])
def test_a_path_with_an_empty_name_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="expected a path of names"):
        by_path(path)
    with pytest.raises(ValueError, match="counted from 1"):
        by_subject(0)
