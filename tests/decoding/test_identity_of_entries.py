"""The identity of an entry: its own `_id`, its id, that of a header, or the derived one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from bson import ObjectId

from collector.decoding.headers import MAX_ATTEMPT, attempt
from collector.model import Reason, Refusal
from tests.support.wire_bytes import (
    BUNDLE,
    CODEC,
    DATA,
    DERIVED,
    ID,
    INCARNATION,
    JSON,
    SEQUENCE,
    delivery,
    document,
    entry,
    go,
    reject,
)


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
