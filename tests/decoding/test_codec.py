"""The codec against bytes written by hand from the msgpack specification, and against arbitrary ones."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
import zlib
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import bson
import msgspec
import pytest
import zstandard
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.decoding.codec import Codec
from collector.decoding.headers import MAX_ATTEMPT, attempt, headers
from collector.decoding.identity import Incarnation
from collector.model import Decoded, Delivery, Entry, Reason, Refusal, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable

INCARNATION = Incarnation("beta:logs:system", "2024-05-06T07:08:09Z")
CODEC = Codec(INCARNATION)
PUBLISHED = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
PUBLISHED_NS = 1_714_979_289_123_456_789
SEQUENCE = 7
DERIVED = INCARNATION.identity(SEQUENCE)
BUNDLE = b"Content-Type: application/vnd.transfer.bundle+msgpack"
JSON = b"Content-Type: application/json"
LIMIT = 10 * 1024 * 1024

METADATA, DATA, TIMESTAMP, ID = (
    "a8 6d65746164617461",  # fixstr 8 "metadata"
    "a4 64617461",  # fixstr 4 "data"
    "a9 74696d657374616d70",  # fixstr 9 "timestamp"
    "a2 6964",  # fixstr 2 "id"
)
NIL = "c0"
EMPTY = "80"  # fixmap 0
AT_ONE = "d6 ff 00000001"  # fixext 4, type -1: 1970-01-01T00:00:01Z
DEEP = "81 a161 " * 100_000 + NIL


def short(value: object) -> str:
    """Return a name for a test case whose input may be half a megabyte."""
    return repr(value)[:20]


def delivery(body: bytes, *fields: bytes, sequence: int = SEQUENCE) -> Delivery:
    raw_headers = b"\r\n".join([b"NATS/1.0", *fields, b"", b""]) if fields else b""
    return Delivery("beta.logs.system", "$JS.ACK.x", body, raw_headers, "beta:logs:system", sequence, 1, PUBLISHED_NS)


def go(data: str = EMPTY, timestamp: str = AT_ONE, metadata: str = NIL) -> bytes:
    """Return what the Go client sends: a fixmap of three, in the order of its struct."""
    return bytes.fromhex(f"83 {METADATA} {metadata} {DATA} {data} {TIMESTAMP} {timestamp}")


def decoded(body: bytes, *fields: bytes) -> Decoded:
    return CODEC.decode(delivery(body, *fields))


def entry(body: bytes, *fields: bytes) -> Entry:
    result = decoded(body, *fields)
    assert (len(result.entries), result.rejects) == (1, [])
    return result.entries[0]


def document(body: bytes, *fields: bytes) -> dict[str, Any]:
    """Return the document with its time in UTC, for which the driver takes a time without a zone."""
    found = entry(body, *fields).document
    assert found["timestamp"].tzinfo is None
    return found | {"timestamp": found["timestamp"].replace(tzinfo=UTC)}


def reject(body: bytes, *fields: bytes) -> Rejected:
    result = decoded(body, *fields)
    assert (result.entries, len(result.rejects)) == ([], 1)
    assert result.rejects[0].delivery is result.deliveries[0]
    return result.rejects[0]


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[arg-type,misc]


# What the Go client sends


@pytest.mark.parametrize(
    ("encoded", "value"),
    [
        ("c0", None),
        ("c2", False),
        ("c3", True),
        ("00", 0),  # positive fixint
        ("7f", 127),
        ("ff", -1),  # negative fixint
        ("e0", -32),
        ("cc ff", 255),  # uint 8
        ("cd ffff", 65_535),  # uint 16
        ("ce ffffffff", 4_294_967_295),  # uint 32
        ("cf 7fffffffffffffff", 2**63 - 1),  # uint 64
        ("cf ffffffffffffffff", 2**64 - 1),
        ("d0 80", -128),  # int 8
        ("d1 8000", -32_768),  # int 16
        ("d2 80000000", -2_147_483_648),  # int 32
        ("d3 8000000000000000", -(2**63)),  # int 64
        ("ca 40600000", 3.5),  # float 32
        ("cb 3ff3333333333333", 1.2),  # float 64
        ("cb 7ff0000000000000", math.inf),
        ("a0", ""),  # fixstr
        ("a2 c3a9", "é"),
        ("d9 01 61", "a"),  # str 8
        ("da 0001 61", "a"),  # str 16
        ("db 00000001 61", "a"),  # str 32
        ("c4 03 00ff80", b"\x00\xff\x80"),  # bin 8: []byte, not text
        ("c5 0001 ff", b"\xff"),  # bin 16
        ("c6 00000001 ff", b"\xff"),  # bin 32
        ("92 01 a161", [1, "a"]),  # fixarray
        ("dc 0002 01 c0", [1, None]),  # array 16
        ("dd 00000001 90", [[]]),  # array 32
        ("81 a162 c2", {"b": False}),  # fixmap
        ("de 0001 a162 c2", {"b": False}),  # map 16
        ("df 00000001 a162 c2", {"b": False}),  # map 32
        ("d6 ff 00000001", utc(1970, 1, 1, 0, 0, 1)),  # a time.Time inside data
        ("91 d7 ff 1d6f3454 66388049", [utc(2024, 5, 6, 7, 1, 29, 123457)]),
        ("d6 0d 00000001", utc(1970, 1, 1, 0, 0, 1)),  # extension 13: a Node.js publisher's time
    ],
)
def test_every_msgpack_value_is_kept_as_it_was_sent(encoded: str, value: object) -> None:
    kept = document(go(f"81 a176 {encoded}"))["v"]
    assert kept == value
    assert type(kept) is type(value)


def test_nan_is_kept() -> None:
    assert math.isnan(document(go("81 a176 cb 7ff8000000000000"))["v"])


@pytest.mark.parametrize(
    ("encoded", "moment"),
    [
        # timestamp 32: seconds as uint 32
        ("d6 ff 00000000", utc(1970, 1, 1)),
        ("d6 ff ffffffff", utc(2106, 2, 7, 6, 28, 15)),
        # timestamp 64: nanoseconds in 30 bits, seconds in 34
        ("d7 ff 00000001 00000000", utc(2106, 2, 7, 6, 28, 16)),
        ("d7 ff 1d6f3454 66388049", utc(2024, 5, 6, 7, 1, 29, 123457)),
        ("d7 ff ee6b27fc 00000000", utc(1970, 1, 1, 0, 0, 0, 999999)),  # 999,999,999 ns
        ("d7 ff 00000003 ffffffff", utc(2514, 5, 30, 1, 53, 3)),
        # timestamp 96: nanoseconds as uint 32, seconds as int 64
        ("c7 0c ff 00000000 ffffffffffffffff", utc(1969, 12, 31, 23, 59, 59)),
        ("c7 0c ff 3b9ac9ff ffffffffffffffff", utc(1969, 12, 31, 23, 59, 59, 999999)),
        ("c7 0c ff 00000000 0000000400000000", utc(2514, 5, 30, 1, 53, 4)),
        ("c7 0c ff 00000000 fffffff1886e0901", utc(1, 1, 1, 0, 0, 1)),
        ("c7 0c ff 00000000 0000003afff4417f", utc(9999, 12, 31, 23, 59, 59)),
        ("c7 0c ff 3b9a3ab8 0000003afff4417f", utc(9999, 12, 31, 23, 59, 59, 999963)),
        # the same under extension 13
        ("d7 0d ee6b27fc 00000000", utc(1970, 1, 1, 0, 0, 0, 999999)),
        # a pair: seconds, nanoseconds
        ("92 00 00", utc(1970, 1, 1)),
        ("92 ff ce 3b9ac9ff", utc(1969, 12, 31, 23, 59, 59, 999999)),
        ("dc 0002 ce 66388049 ce 075bcd15", utc(2024, 5, 6, 7, 1, 29, 123456)),
        # epoch seconds
        ("ce 66388049", utc(2024, 5, 6, 7, 1, 29)),
        ("d2 ffffffff", utc(1969, 12, 31, 23, 59, 59)),
        ("cf 0000003afff4417f", utc(9999, 12, 31, 23, 59, 59)),
        ("cb bff8000000000000", utc(1969, 12, 31, 23, 59, 58, 500000)),  # -1.5
        # fixstr 20 "2024-05-06T07:08:09Z"
        ("b4 323032342d30352d30365430373a30383a30395a", utc(2024, 5, 6, 7, 8, 9)),
    ],
)
def test_every_form_of_timestamp_is_the_moment_it_means(encoded: str, moment: datetime) -> None:
    stored = document(go(timestamp=encoded))["timestamp"]
    assert (stored, stored.tzinfo) == (moment, UTC)


@pytest.mark.parametrize(
    "encoded",
    [
        NIL,
        "c7 0c ff 00000000 fffffff1886e0900",  # Go's time.Time{}: 0001-01-01T00:00:00Z
        "92 d3 fffffff1886e0900 00",
        "b4 303030312d30312d30315430303a30303a30305a",
    ],
)
def test_null_and_the_zero_time_of_go_are_the_time_the_message_was_published(encoded: str) -> None:
    assert document(go(timestamp=encoded))["timestamp"] == PUBLISHED


def test_a_timestamp_that_is_missing_is_the_time_the_message_was_published() -> None:
    assert document(bytes.fromhex(f"81 {DATA} 80")) == {"_id": DERIVED, "timestamp": PUBLISHED, "metadata": None}


def test_metadata_that_is_nil_stays_null() -> None:
    stored = document(go("81 a16d a178"))
    assert stored == {"m": "x", "_id": DERIVED, "timestamp": utc(1970, 1, 1, 0, 0, 1), "metadata": None}


@pytest.mark.parametrize(("encoded", "value"), [("80", {}), ("81 a16b 01", {"k": 1}), ("91 01", [1]), ("a178", "x")])
def test_metadata_is_any_value(encoded: str, value: object) -> None:
    assert document(go(metadata=encoded))["metadata"] == value


def test_a_struct_sent_as_an_array_is_the_same_entry() -> None:
    as_array = bytes.fromhex(f"93 81 a16b 01 81 a16d a178 {AT_ONE}")
    assert document(as_array) == document(go("81 a16d a178", metadata="81 a16b 01"))
    rounded = bytes.fromhex("dc 0003 c0 80 d7 ff ee6b27fc 00000000")
    assert document(rounded)["timestamp"] == utc(1970, 1, 1, 0, 0, 0, 999999)


def test_fields_that_are_not_known_are_passed_over() -> None:
    assert document(bytes.fromhex(f"82 a178 d4 05 00 {DATA} 81 a16d 01"))["m"] == 1


def test_the_envelope_wins_over_fields_of_data() -> None:
    stored = document(bytes.fromhex(f"82 {DATA} 82 {TIMESTAMP} 01 {METADATA} 02 {TIMESTAMP} {AT_ONE}"))
    assert (stored["timestamp"], stored["metadata"]) == (utc(1970, 1, 1, 0, 0, 1), None)


# Identity


def test_the_id_of_data_comes_before_that_of_the_entry() -> None:
    own = entry(bytes.fromhex(f"82 {ID} c4 0c {'ab' * 12} {DATA} 81 a35f6964 05"))
    assert (own.document["_id"], own.own_id) == (5, True)


def test_the_id_of_the_entry_comes_before_the_derived_one() -> None:
    brought = entry(bytes.fromhex(f"82 {ID} c4 0c {'ab' * 12} {DATA} 81 a35f6964 c0"))
    assert (brought.document["_id"], brought.own_id) == (ObjectId("ab" * 12), False)


def test_an_entry_without_any_id_has_the_derived_one() -> None:
    derived = entry(bytes.fromhex(f"82 {ID} c0 {DATA} 80"))
    assert (derived.document["_id"], derived.own_id) == (DERIVED, False)


OTHER_ID = b"Transfer-Content-Id: " + b"cd" * 12


def test_the_id_of_a_header_comes_after_that_of_the_entry_and_before_the_derived_one() -> None:
    assert entry(go(), OTHER_ID).document["_id"] == ObjectId("cd" * 12)
    assert entry(b'{"data": {}}', JSON, OTHER_ID.lower()).document["_id"] == ObjectId("cd" * 12)
    brought = entry(bytes.fromhex(f"82 {ID} c4 0c {'ab' * 12} {DATA} 80"), OTHER_ID)
    assert brought.document["_id"] == ObjectId("ab" * 12)
    own = entry(bytes.fromhex(f"81 {DATA} 81 a35f6964 05"), OTHER_ID)
    assert (own.document["_id"], own.own_id) == (5, True)


def test_whatever_is_poison_keeps_the_id_of_its_header() -> None:
    for poison in (
        delivery(b"\xc1", OTHER_ID),
        delivery(go(), OTHER_ID, b"Content-Encoding: br"),
        delivery(b"", OTHER_ID),
    ):
        assert CODEC.decode(poison).rejects[0].identity == ObjectId("cd" * 12)
    own = entry(bytes.fromhex(f"81 {DATA} 81 a35f6964 05"), OTHER_ID)
    refused = CODEC.rejects([Refusal(own, Reason.DUPLICATE_KEY, "there is another one")])
    assert [one.identity for one in refused] == [ObjectId("cd" * 12)]


def test_a_bundle_that_names_its_identity_has_the_entries_that_it_would_have_had_in_its_first_place() -> None:
    bundle = b"\x93" + go() + b"\xc0" + go()
    first = CODEC.decode(delivery(bundle, BUNDLE))
    name = b"Transfer-Content-Id: " + str(INCARNATION.identity(SEQUENCE)).encode()
    again = CODEC.decode(delivery(bundle, BUNDLE, name, sequence=SEQUENCE + 1))
    assert [one.document["_id"] for one in again.entries] == [one.document["_id"] for one in first.entries]
    assert [one.identity for one in again.rejects] == [one.identity for one in first.rejects]
    last = CODEC.decode(delivery(bundle, BUNDLE, b"Transfer-Content-Id: " + b"ff" * 12))
    assert [one.document["_id"] for one in last.entries] == [ObjectId("ff" * 12), ObjectId("00" * 11 + "01")]


def test_the_time_of_a_header_is_that_of_an_entry_without_one() -> None:
    first = b"Transfer-Content-Time: 1700000000123"
    assert document(bytes.fromhex(f"81 {DATA} 80"), first)["timestamp"] == datetime.fromtimestamp(
        1_700_000_000.123, UTC
    )
    assert entry(go(), first).document["timestamp"] == entry(go()).document["timestamp"]


@pytest.mark.parametrize("value", [b"", b"-1", b"soon", b"253402300800000", b"9" * 20, b"\xff"])
def test_a_time_in_a_header_that_is_none_is_not_believed(value: bytes) -> None:
    plain = bytes.fromhex(f"81 {DATA} 80")
    assert entry(plain, b"Transfer-Content-Time: " + value).document["timestamp"] == entry(plain).document["timestamp"]


@pytest.mark.parametrize("value", [b"12", b"x" * 24, b"ab" * 12 + b"\r\nTransfer-Content-Id: " + b"cd" * 12, b"\xff"])
def test_an_id_in_a_header_that_is_none_is_a_reject_under_the_derived_one(value: bytes) -> None:
    bad = reject(go(), b"Transfer-Content-Id: " + value)
    assert bad.identity == DERIVED
    assert bad.error == "Transfer-Content-Id: expected 12 bytes, or 24 hex digits as text, got another `str`"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *[(b"1", 1), (b"2", 2), (b"012", 12), (b"0", 1), (b"-3", 1), (b"x", 1), (b"\xb2", 1), (b"", 1)],
        *[(str(MAX_ATTEMPT).encode(), MAX_ATTEMPT), (b"1000000000", 1)],
    ],
)
def test_the_attempt_is_that_of_the_header_when_it_can_be_believed(value: bytes, number: int) -> None:
    assert attempt(b"NATS/1.0\r\nTransfer-Attempt: " + value + b"\r\n\r\n") == number
    assert attempt(b"") == 1


def test_a_reject_has_the_id_of_the_entry_when_it_can_be_read() -> None:
    assert reject(bytes.fromhex(f"82 {ID} c4 0c {'ab' * 12} {DATA} c0")).identity == ObjectId("ab" * 12)
    assert reject(bytes.fromhex(f"82 {ID} c4 0b {'ab' * 11} {DATA} 80")).identity == DERIVED
    assert reject(b'{"id": "abababababababababababab", "data": null}').identity == ObjectId("ab" * 12)


# JSON


def test_json_is_read_with_its_type_or_by_its_brace() -> None:
    body = b'{"data": {"m": "x", "n": 12, "f": 1.5}, "metadata": {"k": null}, "timestamp": "2024-05-06T07:08:09Z"}'
    expected = {
        "m": "x",
        "n": 12,
        "f": 1.5,
        "_id": DERIVED,
        "metadata": {"k": None},
        "timestamp": utc(2024, 5, 6, 7, 8, 9),
    }
    for fields in (
        [],
        [JSON],
        [b"content-type:APPLICATION/JSON ; charset=utf-8"],
        [b"Content-Type: application/msgpack"],
    ):
        assert document(body, *fields) == expected
    assert document(b"\n " + body, JSON) == expected


@pytest.mark.parametrize("before", [b"", b" ", b"\n\t\r ", b"\xef\xbb\xbf", b"\xef\xbb\xbf ", b" \xef\xbb\xbf"])
@pytest.mark.parametrize("content_type", [b"", b"Content-Type: application/msgpack", JSON])
def test_json_may_stand_behind_white_space_or_a_byte_order_mark(before: bytes, content_type: bytes) -> None:
    body = before + b'{"data": {"msg": "x"}, "id": "' + b"cd" * 12 + b'"}'
    found = document(body, content_type)
    assert (found["msg"], found["_id"]) == ("x", ObjectId("cd" * 12))


@pytest.mark.parametrize("body", [b" ", b"\xef\xbb\xbf", b"\n[", b"\xef", b" x"])
def test_what_is_not_json_behind_white_space_is_malformed(body: bytes) -> None:
    assert reject(body).reason is Reason.MALFORMED


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-06T07:08:09Z", utc(2024, 5, 6, 7, 8, 9)),
        ("2024-05-06t07:08:09z", utc(2024, 5, 6, 7, 8, 9)),
        ("2024-05-06 07:08:09.5Z", utc(2024, 5, 6, 7, 8, 9, 500000)),
        ("2024-05-06T07:08:09.999999999Z", utc(2024, 5, 6, 7, 8, 9, 999999)),
        (f"2024-05-06T07:08:09.{'9' * 60}+02:00", utc(2024, 5, 6, 5, 8, 9, 999999)),
        ("2024-05-06T07:08:09-05:30", utc(2024, 5, 6, 12, 38, 9)),
        ("9999-12-31T23:59:59.9999999Z", utc(9999, 12, 31, 23, 59, 59, 999999)),
        ("2016-12-31T23:59:60Z", utc(2017, 1, 1)),  # a leap second
        ("2016-12-31T23:59:60.25Z", utc(2017, 1, 1, 0, 0, 0, 250000)),
        ("0001-01-01T01:00:00+01:00", PUBLISHED),
        ("0001-01-01T00:00:00.000001Z", utc(1, 1, 1, 0, 0, 0, 1)),
        (1_714_979_289, utc(2024, 5, 6, 7, 8, 9)),
        (1_714_979_289.25, utc(2024, 5, 6, 7, 8, 9, 250000)),
        ([1_714_979_289, 250_000_000], utc(2024, 5, 6, 7, 8, 9, 250000)),
    ],
)
def test_a_timestamp_in_json_is_rfc_3339_or_a_number_or_a_pair(text: object, moment: datetime) -> None:
    assert document(json.dumps({"data": {}, "timestamp": text}).encode())["timestamp"] == moment


def test_a_timestamp_in_json_is_never_rounded_and_stands_in_utc() -> None:
    stored = document(b'{"data": {}, "timestamp": "2024-05-06T07:08:09.123+02:00"}')["timestamp"]
    assert stored.tzinfo is UTC


# Bundles


def test_a_bundle_is_many_entries_each_with_its_position() -> None:
    result = decoded(b"\x93" + go("81 a16e 00") + go("81 a16e 01") + bytes.fromhex(f"93 c0 81 a16e 02 {NIL}"), BUNDLE)
    assert result.rejects == []
    assert [(entry.position, entry.document["n"]) for entry in result.entries] == [(0, 0), (1, 1), (2, 2)]
    assert [entry.document["_id"] for entry in result.entries] == [INCARNATION.identity(SEQUENCE, n) for n in range(3)]


@pytest.mark.parametrize(
    "bad",
    [
        "01",
        NIL,
        f"81 {DATA} c0",
        f"81 {DATA} 81 a176 a1ff",
        f"82 {DATA} 80 {TIMESTAMP} cb 7ff8000000000000",
        f"82 {DATA} 80 {ID} 01",
        f"81 {DATA} 81 a176 d4 05 00",
        f"81 {DATA} {DEEP}",
        "7b",
    ],
    ids=["number", "nil", "no map", "not utf-8", "nan", "id", "extension", "deep", "brace"],
)
def test_one_bad_entry_among_a_hundred_good_ones_is_one_reject(bad: str) -> None:
    good, slice_ = go("81 a16d a178"), bytes.fromhex(bad)
    bundle = bytes.fromhex("dc 0064") + good * 40 + slice_ + good * 59
    for body, fields in ((bundle, [BUNDLE]), (gzip.compress(bundle), [BUNDLE, b"Content-Encoding: gzip"])):
        message = delivery(body, *fields)
        result = CODEC.decode(message)
        assert [entry.position for entry in result.entries] == [*range(40), *range(41, 100)]
        [bad_one] = result.rejects
        assert (bad_one.position, bad_one.reason, bad_one.body) == (40, Reason.MALFORMED, slice_)
        assert bad_one.identity == INCARNATION.identity(SEQUENCE, 40)
        assert CODEC.originals(message, [0, 40]) == [good, slice_]
        assert CODEC.originals(message, [99])[0] == good


def test_entries_around_one_that_is_too_deep_are_cut_at_the_right_places() -> None:
    # fmt: off
    values = [
        "c0", "c2", "7f", "e0", "cc01", "cd0001", "ce00000001", "cf0000000000000001", "d001", "d10001",
        "d200000001", "d30000000000000001", "ca00000000", "cb0000000000000000", "a161", "d90161", "da000161",
        "db0000000161", "c40161", "c5000161", "c60000000161", "9101", "dc000101", "dd0000000101", "81a16101",
        "de0001a16101", "df00000001a16101", "d6ff00000001", "d7ff0000000000000001",
        "c70cff000000000000000000000001", "c8000cff000000000000000000000001",
        "c90000000cff000000000000000000000001",
    ]
    # fmt: on
    good = go(f"81 a176 dc {len(values):04x} {' '.join(values)}")
    fixed = [bytes.fromhex(one) for one in ("d40500", "d5050000", "d8050000000000000000 0000000000000000", "c7010500")]
    parts = [good, bytes.fromhex(f"81 {DATA} {DEEP}"), *fixed, good]
    message = delivery(bytes.fromhex(f"dd {len(parts):08x}") + b"".join(parts), BUNDLE)
    result = CODEC.decode(message)
    assert [entry.position for entry in result.entries] == [0, len(parts) - 1]
    assert [reject.body for reject in result.rejects] == parts[1:-1]
    assert len(result.entries[0].document["v"]) == len(values)


def test_an_empty_bundle_has_nothing_in_it() -> None:
    result = decoded(b"\x90", BUNDLE)
    assert (result.entries, result.rejects) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        b"\x92" + go(),  # cut
        b"\x91" + go() + b"\xc0",  # more than it says
        go(),  # a lone entry
        b'[{"data": {}}]',
        bytes.fromhex("dd 00010001") + b"\xc0" * 65_537,
        bytes.fromhex(f"92 {DEEP}"),
        bytes.fromhex(f"91 {DEEP} c0"),
        bytes.fromhex(f"92 {DEEP} a2 61"),
    ],
    ids=short,
)
def test_a_bundle_that_cannot_be_split_is_one_reject(body: bytes) -> None:
    whole = reject(body, BUNDLE)
    assert (whole.position, whole.reason, whole.identity, whole.body) == (None, Reason.MALFORMED, DERIVED, body)


# Compression


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("X-GZip", gzip.compress),
        ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(b"") + gzip.compress(body[5:])),
        ("zstd", zstandard.compress),
        ("zstd", lambda body: zstandard.compress(body[:5]) + zstandard.compress(body[5:])),
        ("zstd", lambda body: zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(body)),
        ("identity", bytes),
    ],
)
def test_a_compressed_message_is_the_same_entry(encoding: str, compress: Any) -> None:
    body = go("81 a16d a178")
    field = b"content-encoding: " + encoding.encode()
    assert document(compress(body), field) == document(body)
    as_json = b'{"data": {"m": "x"}, "timestamp": 1}'
    assert document(compress(as_json), field) == document(body)
    assert len(decoded(compress(b"\x92" + body * 2), field, BUNDLE).entries) == 2


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_exactly_the_limit_is_inflated_and_one_byte_more_is_not(compress: Any) -> None:
    field = b"Content-Encoding: " + (b"gzip" if compress is gzip.compress else b"zstd")
    body = go(f"81 a176 c6 {1_000_000:08x} {'00' * 1_000_000}")
    message = delivery(compress(body), field)
    assert len(Codec(INCARNATION, max_inflated=len(body)).decode(message).entries) == 1
    [too_large] = Codec(INCARNATION, max_inflated=len(body) - 1).decode(message).rejects
    assert (too_large.reason, too_large.body) == (Reason.TOO_LARGE_INFLATED, message.body)


def gzip_bomb() -> bytes:
    """1 GiB of zeros: one mebibyte, compressed and flushed so that it can be repeated."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, wbits=31)
    head = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    again = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return head + again * 1023


def zstd_bomb() -> bytes:
    """1 GiB of zeros in blocks of one repeated byte, by RFC 8878: no size stated, a window of 128 KiB."""
    block = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"\x00"
    return bytes.fromhex("28b52ffd 00 38") + block * 8192


MEASURE = """
import resource, sys
from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.model import Delivery
raw_headers = b"NATS/1.0\\r\\nContent-Encoding: " + sys.argv[1].encode() + b"\\r\\n\\r\\n"
delivery = Delivery("s", "r", sys.stdin.buffer.read(), raw_headers, "s", 1, 1, 0)
codec = Codec(Incarnation("s", "c"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reasons = [reject.reason.value for reject in codec.decode(delivery).rejects]
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(*reasons, grown * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [("gzip", gzip_bomb()), ("zstd", zstd_bomb()), ("zstd", zstandard.compress(bytes(64 << 20)))],
    ids=["gzip", "zstd", "zstd that states its size"],
)
def test_a_zip_bomb_is_a_reject_and_takes_no_more_memory_than_the_limit(encoding: str, bomb: bytes) -> None:
    measured = subprocess.run([sys.executable, "-c", MEASURE, encoding], input=bomb, capture_output=True, check=True)
    reason, grown = measured.stdout.split()
    assert reason == b"too_large_inflated"
    assert int(grown) < LIMIT * 1.25


GZIPPED = gzip.compress(go(), mtime=0)
"""Without the time, which would be in the names of the tests: each worker has to find the same ones."""


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (go(), b"gzip"),
        (go(), b"zstd"),
        (GZIPPED[:-1], b"gzip"),
        (GZIPPED[:12], b"gzip"),
        (GZIPPED + b"rest", b"gzip"),
        (GZIPPED[:-8] + bytes(8), b"gzip"),  # wrong checksum
        (GZIPPED[:10] + b"\xff" * 20, b"gzip"),
        (zstandard.compress(go())[:-1], b"zstd"),
        (zstandard.compress(go())[:7], b"zstd"),
        (zstandard.compress(go()) + b"rest", b"zstd"),
        (b"", b"gzip"),
        (b"", b"zstd"),
        (gzip.compress(b"", mtime=0), b"gzip"),
        (zlib.compress(go()), b"deflate"),
        (gzip.compress(GZIPPED, mtime=0), b"gzip, gzip"),
        (go(), b"br"),
    ],
    ids=short,
)
def test_what_cannot_be_inflated_is_a_reject(body: bytes, encoding: bytes) -> None:
    whole = reject(body, b"Content-Encoding: " + encoding)
    assert (whole.position, whole.reason, whole.identity, whole.body) == (None, Reason.MALFORMED, DERIVED, body)


# Bad input


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "body: expected an entry, got nothing"),
        (b"\xc1", "malformed: invalid opcode"),
        (b"plain text", "msgpack: Expected `object`, got `int`"),
        (b"\xff\xfe\x00", "Expected `object`, got `int`"),
        (go()[:-1], "Input data was truncated"),
        (go() + b"\x00", "trailing characters"),
        (go(f"81 a176 {'c1'}"), "malformed"),
        (bytes.fromhex(f"81 {TIMESTAMP} 01"), "missing required field `data`"),
        (go(NIL), "Expected `object`, got `None` - at `$.data`"),
        (go("90"), "Expected `object`, got `array` - at `$.data`"),
        (go("01"), "Expected `object`, got `int` - at `$.data`"),
        (go("81 01 02"), "Expected `str`, got `int`"),  # a key that is no text
        (go("81 c401 61 02"), "Expected `str`, got `bytes`"),
        (go("81 a176 81 80 01"), "hashable"),
        (bytes.fromhex(f"82 01 02 {DATA} 80"), "Expected `str`"),
        (go("81 a176 a1ff"), "Expected text in UTF-8, got other bytes"),
        (go("81 a1ff 01"), "Expected text in UTF-8, got other bytes"),
        (go(f"81 a176 {DEEP}"), "nested"),
        (go("81 a176 dd ffffffff"), "truncated"),
        (go("81 a176 d4 05 00"), "Expected no extension but times, got extension 5"),
        (go("81 a176 c7 05 0d 0000000000"), "got extension 13"),
        (go("81 a176 c7 0c ff 00000000 0000003afff44180"), "years 1 to 9999"),  # year 10000
        (go("81 a176 c7 0c ff 00000000 7fffffffffffffff"), "out of range"),
        (bytes.fromhex(f"92 {NIL} 80"), "length 3"),
        (bytes.fromhex(f"94 {NIL} 80 {NIL} {NIL}"), "length 3"),
        (bytes.fromhex(f"93 80 {NIL} {NIL}"), "Expected `object`"),
        (bytes.fromhex(f"82 {DATA} 80 {ID} c4 0b {'00' * 11}"), "id: expected 12 bytes"),
        (bytes.fromhex(f"82 {DATA} 80 {ID} a3616263"), "id: expected 12 bytes"),
        (bytes.fromhex(f"82 {DATA} 80 {ID} 05"), "id: expected 12 bytes"),
        (b"{}", "missing required field `data`"),
        (b'{"data": null}', "got `null` - at `$.data`"),
        (b'{"data": {"v": NaN}}', "JSON: JSON is malformed"),
        (b'{"data": {}} x', "trailing"),
        (b'{"data": {"v": "\xff"}}', "Expected text in UTF-8"),
        (b'{"data": {"v": ' + b"[" * 100_000, "nested"),
        (b'{"data": {}, "id": "xyz"}', "id: expected 12 bytes"),
        (b'{"data": {}, "id": "ab ab ab ab ab ab ab ab "}', "id: expected 12 bytes"),
    ],
    ids=short,
)
def test_bad_input_is_one_reject_that_says_what_was_expected(body: bytes, error: str) -> None:
    bad = reject(body)
    assert (bad.position, bad.reason, bad.identity, bad.body) == (None, Reason.MALFORMED, DERIVED, body)
    assert error in bad.error


@pytest.mark.parametrize(
    ("encoded", "error"),
    [
        ("cb 7ff8000000000000", "got NaN"),
        ("cb 7ff0000000000000", "milliseconds"),  # infinity
        ("cb fff0000000000000", "milliseconds"),
        ("cf 0000018bcfe56800", "milliseconds"),  # 1,700,000,000,000
        ("cf ffffffffffffffff", "milliseconds"),
        ("cf 0000003afff44180", "milliseconds"),  # year 10000
        ("c7 0c ff 00000000 0000003afff44180", "years 1 to 9999"),
        ("c7 0c ff 00000000 fffffff1886e08ff", "out of range"),  # year 0
        ("c7 0c ff 3b9aca00 0000000000000000", "nanoseconds out of range"),
        ("92 00 ce 3b9aca00", "nanoseconds below"),
        ("92 00 ff", "nanoseconds below"),
        ("92 c3 00", "nanoseconds below"),
        ("92 cf ffffffffffffffff 00", "years 1 to 9999"),
        ("91 00", "got `list`"),
        ("80", "got `dict`"),
        ("c3", "got `bool`"),
        ("c4 01 00", "got `bytes`"),
        ("a0", "RFC 3339"),
        ("aa 323032342d30352d3036", "RFC 3339"),  # "2024-05-06"
        ("b3 323032342d30352d30365430373a30383a3039", "RFC 3339"),  # without a zone
        ("b9 303030312d30312d30315430303a30303a30302b30313a3030", "years 1 to 9999"),  # "0001-01-01T00:00:00+01:00"
    ],
)
def test_a_timestamp_that_is_none_is_a_reject(encoded: str, error: str) -> None:
    bad = reject(go(timestamp=encoded))
    assert bad.reason is Reason.MALFORMED
    assert error in bad.error


@pytest.mark.parametrize("content_type", [b"text/plain", b"application/json, application/msgpack", b"\xff\xfe"])
def test_an_unknown_content_type_is_a_reject(content_type: bytes) -> None:
    bad = reject(go(), b"Content-Type: " + content_type)
    assert "Content-Type: expected application/msgpack, application/json or" in bad.error


def test_an_entry_of_5_mebibytes_is_an_entry() -> None:
    size = 5 << 20
    assert document(go(f"81 a176 db {size:08x} {'61' * size}"))["v"] == "a" * size


@pytest.mark.parametrize("data", ["81 a176 cf ffffffffffffffff", "81 a176 81 01 02"], ids=["uint64", "nested key"])
def test_what_only_bson_refuses_is_left_to_the_writer(data: str) -> None:
    with pytest.raises((OverflowError, bson.errors.InvalidDocument)):
        bson.encode(document(go(data)))


# Headers


def test_headers_keep_order_and_every_value_and_every_byte() -> None:
    block = (
        b"NATS/1.0\r\nA: 1\r\nb:  two words \r\nA: 2\r\nempty:\r\nno colon\r\n: no name\r\nx: \xff\xc3\xa9: y\r\n\r\n"
    )
    fields = headers(block)
    assert fields == [
        ("A", "1"),
        ("b", "two words"),
        ("A", "2"),
        ("empty", ""),
        ("no colon", ""),
        ("", "no name"),
        ("x", "\xff\xc3\xa9: y"),
    ]
    assert fields[-1][1].encode("latin-1") == b"\xff\xc3\xa9: y"
    assert headers(b"") == []


# Anything at all


def accounted(result: Decoded) -> None:
    """Each entry of the message is there once, or the message as a whole is a reject."""
    everything: list[Entry | Rejected] = [*result.entries, *result.rejects]
    assert all(one.delivery is result.deliveries[0] for one in everything)
    positions = [one.position for one in everything]
    assert positions == [None] or set(positions) == set(range(len(positions)))
    assert all(isinstance(one.identity, ObjectId) for one in result.rejects)
    assert all(one.error for one in result.rejects)
    originals = CODEC.originals(result.deliveries[0], positions) if result.entries else []
    rejected = {one.position: one.body for one in result.rejects}
    for position, original in zip(positions, originals, strict=False):
        assert rejected.get(position, original) == original


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
moments = st.datetimes(timezones=st.just(UTC))
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.binary(max_size=20)
    | moments
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
datas = st.dictionaries(names.filter(lambda name: name != "_id"), values, max_size=5)
envelopes = st.fixed_dictionaries({"data": datas, "timestamp": moments, "metadata": values})
fields = st.lists(
    st.sampled_from([BUNDLE, JSON, b"Content-Type: application/msgpack", b"Content-Encoding: gzip"])
    | st.sampled_from([b"Content-Encoding: zstd", b"Transfer-Content-Id: " + b"ef" * 12])
    | st.binary(max_size=30),
    max_size=3,
)
packed = envelopes.map(msgspec.msgpack.encode) | st.lists(envelopes, max_size=3).map(msgspec.msgpack.encode)
wrapped = packed | packed.map(gzip.compress) | packed.map(zstandard.compress)


def pieces(decoded: Iterable[Decoded | None]) -> list[Decoded]:
    return [one for one in decoded if one is not None]


def test_opening_a_large_bundle_lets_others_go_on_again_and_again() -> None:
    inflated = CODEC.inflated_from([delivery(b"\xdc\x13\x88" + b"\x80" * 5000, BUNDLE)])
    found = list(CODEC.decode_inflated(inflated, weigh=False))
    assert found[:-1] == [None] * 10
    assert found[-1] is not None
    assert len(found[-1].rejects) == 5000


mutations = st.tuples(packed, fields, st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=1))


@settings(max_examples=200, deadline=None)
@given(st.lists(mutations, min_size=1, max_size=8))
def test_deliveries_opened_together_hold_what_each_holds_alone(
    messages: list[tuple[bytes, list[bytes], list[tuple[float, int]]]],
) -> None:
    deliveries = []
    for sequence, (body, some, flips) in enumerate(messages, 1):
        mutated = bytearray(body)
        for place, byte in flips:
            mutated[int(place * (len(mutated) - 1))] = byte
        deliveries.append(delivery(bytes(mutated), *some, sequence=sequence))
    codec, found, left = Codec(INCARNATION), list[Decoded](), deliveries
    while left:
        inflated = codec.inflated_from(left)
        left = left[len(inflated.deliveries) :]
        found += pieces(codec.decode_inflated(inflated, weigh=True))
    alone = [CODEC.decode(one) for one in deliveries]
    assert [one for decoded in found for one in decoded.deliveries] == deliveries
    assert repr([one for decoded in found for one in decoded.entries]) == repr(
        [e for one in alone for e in one.entries]
    )
    assert [one for decoded in found for one in decoded.rejects] == [e for one in alone for e in one.rejects]
    assert all(len(one.deliveries) == 1 or len(one.entries) == len(one.deliveries) for one in found)


def test_entries_of_one_form_are_opened_together_until_they_are_64_kib() -> None:
    small, large = delivery(go("81 a16d a178")), delivery(go("81 a16d da ffff" + "78" * 0xFFFF))
    assert len(CODEC.inflated_from([small] * 5).deliveries) == 5
    assert len(CODEC.inflated_from([small, small, large, small]).deliveries) == 2
    assert len(CODEC.inflated_from([large, small]).deliveries) == 1
    assert len(CODEC.inflated_from([small, delivery(b"{}"), small]).deliveries) == 1
    assert len(CODEC.inflated_from([small, delivery(go(), BUNDLE)]).deliveries) == 1
    assert len(CODEC.inflated_from([small, delivery(go(), b"Transfer-Content-Id: " + b"ab" * 12)]).deliveries) == 1


def test_one_bad_entry_among_many_is_a_reject_and_its_neighbours_are_entries() -> None:
    good = [delivery(go(), sequence=sequence) for sequence in (1, 2, 4)]
    inflated = CODEC.inflated_from([*good[:2], delivery(b"\xc1", sequence=3), good[2]])
    found = pieces(CODEC.decode_inflated(inflated, weigh=False))
    assert [[entry.delivery.sequence for entry in one.entries] for one in found] == [[1], [2], [], [4]]
    assert [len(one.rejects) for one in found] == [0, 0, 1, 0]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), fields)
def test_arbitrary_bytes_never_raise(body: bytes, some: list[bytes]) -> None:
    accounted(CODEC.decode(delivery(body, *some)))


@settings(max_examples=400, deadline=None)
@given(wrapped, fields, st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4))
def test_mutated_payloads_never_raise(body: bytes, some: list[bytes], flips: list[tuple[float, int]]) -> None:
    mutated = bytearray(body)
    for place, byte in flips:
        mutated[int(place * (len(mutated) - 1))] = byte
    accounted(CODEC.decode(delivery(bytes(mutated), *some)))


@settings(max_examples=200, deadline=None)
@given(envelopes)
def test_a_valid_entry_becomes_a_document_that_mongodb_can_take(envelope: dict[str, Any]) -> None:
    stored = document(msgspec.msgpack.encode(envelope))
    moment = envelope["timestamp"]
    expected = {
        **envelope["data"],
        "_id": DERIVED,
        "timestamp": PUBLISHED if moment == utc(1, 1, 1) else moment,
        "metadata": envelope["metadata"],
    }
    assert stored == expected
    bson.encode(stored)


@settings(max_examples=100, deadline=None)
@given(moments, st.integers(-23 * 60, 23 * 60))
def test_every_form_of_a_moment_is_the_same_moment(moment: datetime, offset: int) -> None:
    seconds, rest = divmod(moment - utc(1970, 1, 1), timedelta(seconds=1))
    forms: list[object] = [moment, [seconds, rest.microseconds * 1000 + 999], moment.isoformat()]
    if 2 < moment.year < 9998:
        forms.append(moment.astimezone(timezone(timedelta(minutes=offset))).isoformat())
    stored = {document(msgspec.msgpack.encode({"data": {}, "timestamp": form}))["timestamp"] for form in forms}
    assert stored == {PUBLISHED if moment == utc(1, 1, 1) else moment}


def test_the_size_of_what_was_opened_is_that_of_the_entries_inflated() -> None:
    body = go()
    assert CODEC.decode(delivery(body)).size == len(body)
    assert CODEC.decode(delivery(gzip.compress(body), b"Content-Encoding: gzip")).size == len(body)
    bundle = b"\x93" + body * 3
    assert CODEC.decode(delivery(gzip.compress(bundle), BUNDLE, b"Content-Encoding: gzip")).size == 3 * len(body)
