"""Bytes that can never be an entry: one reject, which says what was expected."""

from __future__ import annotations

import bson
import pytest

from collector.model import Reason
from tests.support.wire_bytes import (
    DATA,
    DEEP,
    DERIVED,
    ID,
    NIL,
    TIMESTAMP,
    document,
    go,
    reject,
    short,
)


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
