"""Entries in JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from collector.model import Reason
from tests.support.wire_bytes import (
    DERIVED,
    JSON,
    PUBLISHED,
    document,
    reject,
    utc,
)


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
