"""Anything at all: the codec never raises, keeps every entry, and decodes many at once as it decodes each alone."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import bson
import msgspec
import zstandard
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.decoding.codec import Codec
from collector.model import Decoded, Entry, Rejected
from tests.support.wire_bytes import (
    BUNDLE,
    CODEC,
    DERIVED,
    INCARNATION,
    JSON,
    PUBLISHED,
    delivery,
    document,
    go,
    utc,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


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
