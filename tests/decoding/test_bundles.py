"""Bundles: each entry has its position and its own fate."""

from __future__ import annotations

import gzip

import pytest

from collector.model import Reason
from tests.support.wire_bytes import (
    BUNDLE,
    CODEC,
    DATA,
    DEEP,
    DERIVED,
    ID,
    INCARNATION,
    NIL,
    SEQUENCE,
    TIMESTAMP,
    decoded,
    delivery,
    go,
    reject,
    short,
)


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
