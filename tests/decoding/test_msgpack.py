"""Entries in msgpack, as the Go client sends them: every value, and every form of a time."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from tests.support.wire_bytes import (
    AT_ONE,
    DATA,
    DERIVED,
    METADATA,
    NIL,
    PUBLISHED,
    TIMESTAMP,
    document,
    go,
    utc,
)


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
