"""What entries take in memory: estimated before and after they are decoded, and measured."""

from __future__ import annotations

import gc
import gzip
import tracemalloc
from typing import Any

import bson
import msgspec
import pytest

from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.decoding.weight import MAX_VALUES, MAX_WEIGHT, SURELY_LIGHT, check_values, weight_of
from collector.model import Delivery, Reason

CODEC = Codec(Incarnation("ns:logs:a", "2024-01-01T00:00:00Z"))
JSON_HEADERS = b"NATS/1.0\r\nContent-Type: application/json\r\n\r\n"
BUNDLE_HEADERS = b"NATS/1.0\r\nContent-Type: application/vnd.transfer.bundle+msgpack\r\n\r\n"
GZIP_BUNDLE = BUNDLE_HEADERS[:-2] + b"Content-Encoding: gzip\r\n\r\n"


def entry(**data: Any) -> bytes:
    return msgspec.msgpack.encode({"metadata": {"host": "web-1"}, "data": data})


def array_of(element: bytes, count: int) -> bytes:
    return b"\x81\xa4data\x81\xa1a\xdd" + count.to_bytes(4) + element * count


FIELDS = {f"field{number}": f"value {number}" for number in range(12)}
BODIES = {
    "a sentence": entry(message="GET /health " * 80),
    "short fields": entry(**FIELDS),
    "numbers": entry(**{f"f{number}": 1000 + number for number in range(120)}),
    "Cyrillic": entry(message="Привет, мир " * 20),
    "Chinese": entry(message="日志记录" * 30),
    "empty maps": array_of(b"\x80", 1000),
    "empty arrays": array_of(b"\x90", 1000),
    "maps of one": array_of(b"\x81\xa0\xc0", 1000),
    "letters": array_of(b"\xa1a", 1000),
    "nils": array_of(b"\xc0", 1000),
    "numbers that look like text": array_of(b"a", 1000),
    "JSON": msgspec.json.encode({"data": FIELDS}),
    "empty maps in JSON": msgspec.json.encode({"data": {"a": [{}] * 1000}}),
}


def delivery(body: bytes, raw_headers: bytes = b"", sequence: int = 1) -> Delivery:
    return Delivery("ns.logs.a", f"$JS.ACK.{sequence}", body, raw_headers, "ns:logs:a", sequence, 1, 1)


def measured(body: bytes) -> float:
    """Return the bytes that one entry takes, and its BSON."""
    several = [delivery(body, sequence=number) for number in range(200)]
    gc.collect()
    tracemalloc.start()
    try:
        decoded = [CODEC.decode(one) for one in several]
        taken = tracemalloc.get_traced_memory()[0] / len(several)
    finally:
        tracemalloc.stop()
    return taken + len(bson.encode(decoded[0].entries[0].document))


@pytest.mark.parametrize("name", BODIES)
def test_no_entry_takes_much_more_than_its_ceiling_or_its_weight(name: str) -> None:
    body = BODIES[name]
    taken = measured(body)
    inflated = CODEC.inflated_from([delivery(body)])
    document = CODEC.decode(delivery(body)).entries[0].document
    assert taken < 1.3 * inflated.ceiling
    assert taken < 1.3 * weight_of(document, len(body))


@pytest.mark.parametrize("name", ["a sentence", "short fields", "numbers", "Cyrillic", "Chinese", "JSON"])
def test_ordinary_entries_are_not_weighed_at_much_more_than_they_take(name: str) -> None:
    body = BODIES[name]
    assert CODEC.decode(delivery(body)).weight < 1.8 * measured(body)


def test_one_look_at_many_deliveries_finds_no_less_than_looks_at_each() -> None:
    several = [delivery(body) for name, body in BODIES.items() if "JSON" not in name]
    together = CODEC.inflated_from(several)
    assert together.deliveries == several
    assert together.ceiling >= sum(CODEC.inflated_from([one]).ceiling for one in several)


def test_only_with_a_close_look_is_text_that_is_not_ascii_weighed_as_what_it_is() -> None:
    for several in ([delivery(BODIES["Chinese"])], [delivery(BODIES["Chinese"])] * 10):
        inflated = CODEC.inflated_from(several)
        (roughly,) = CODEC.decode_inflated(inflated, weigh=False)
        (closely,) = CODEC.decode_inflated(inflated, weigh=True)
        assert roughly is not None
        assert closely is not None
        assert roughly.weight == inflated.ceiling
        assert closely.weight < inflated.ceiling / 4


HOSTILE = {
    "empty maps": (array_of(b"\x80", 10_000_000), b""),
    "nils": (array_of(b"\xc0", 10_000_000), b""),
    "letters": (array_of(b"\xa1a", 5_000_000), b""),
    "maps of one": (array_of(b"\x81\xa0\xc0", 3_000_000), b""),
    "arrays of arrays": (array_of(b"\x91\x91\x91\x90", 2_500_000), b""),
    "JSON": (b'{"data":{"a":[' + b",".join([b"{}"] * 3_000_000) + b"]}}", JSON_HEADERS),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_entry_with_too_many_values_is_a_dead_letter_and_never_decoded(name: str) -> None:
    body, raw_headers = HOSTILE[name]
    tracemalloc.start()
    try:
        decoded = CODEC.decode(delivery(body, raw_headers))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (reject,) = decoded.rejects
    assert (reject.reason, reject.position, reject.body) == (Reason.RULE, None, body)
    assert not decoded.entries
    assert peak < 64 * 1024 * 1024


def test_as_many_values_as_allowed_pass_and_text_is_none() -> None:
    assert not CODEC.decode(delivery(array_of(b"\x90", MAX_VALUES - 10))).rejects
    assert not CODEC.decode(delivery(array_of(b"\x07", 1_360_000))).rejects, (
        "as many numbers as a document has room for"
    )
    assert not CODEC.decode(delivery(entry(message='{"a": [1, 2]},' * 100_000))).rejects
    text = msgspec.json.encode({"data": {"message": '{"a\\": [1, 2]},' * 100_000}})
    assert not CODEC.decode(delivery(text, JSON_HEADERS)).rejects


@pytest.mark.parametrize("body", [b'{"' + b'\\"' * 5_000_000, b'"' * 9_999_999, b'{"a' + b"," * 9_999_999])
def test_text_without_an_end_is_looked_through_once(body: bytes) -> None:
    check_values(body + b"," * MAX_VALUES, json=True)


def test_a_bundle_whose_entries_take_too_much_together_is_one_dead_letter() -> None:
    count = 60_000
    packed = b"\xdd" + count.to_bytes(4) + array_of(b"\x80", 150) * count
    body = gzip.compress(packed, 1)
    tracemalloc.start()
    try:
        decoded = CODEC.decode(delivery(body, GZIP_BUNDLE))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (reject,) = decoded.rejects
    assert (reject.reason, reject.position, reject.body) == (Reason.RULE, None, body)
    assert not decoded.entries
    assert peak < MAX_WEIGHT + 32 * 1024 * 1024


def test_a_bundle_of_5000_entries_with_48_fields_passes() -> None:
    one = entry(**{f"field{number}": f"value {number}" for number in range(48)})
    decoded = CODEC.decode(delivery(gzip.compress(b"\xdc" + (5000).to_bytes(2) + one * 5000, 1), GZIP_BUNDLE))
    assert len(decoded.entries) == 5000
    assert decoded.weight < MAX_WEIGHT


def test_what_becomes_a_dead_letter_takes_something_too() -> None:
    assert CODEC.decode(delivery(HOSTILE["nils"][0])).weight > len(HOSTILE["nils"][0])
    assert CODEC.decode(delivery(b"\xc1")).weight > 1


def test_the_heaviest_bytes_of_the_surely_light_size_are_light_enough() -> None:
    for element in (b"\x80", b"\x90", b"\x81\xa0\xc0", b"\x91\x80"):
        body = array_of(element, SURELY_LIGHT // len(element) // 2 - 20)  # more values would be no entry
        (one,) = CODEC.decode(delivery(body)).entries
        assert 2 * weight_of(one.document, len(body)) < MAX_WEIGHT


def test_what_cannot_be_opened_keeps_nothing_of_what_was_inflated() -> None:
    body = gzip.compress(b"\xdd\xff\xff\xff\xff" + b"\x80" * 9_000_000, 1)
    tracemalloc.start()
    try:
        inflated = [CODEC.inflated_from([delivery(body, GZIP_BUNDLE)]) for _ in range(5)]
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 1024 * 1024
    (decoded,) = CODEC.decode_inflated(inflated[0], weigh=False)
    assert decoded is not None
    assert decoded.rejects[0].reason is Reason.MALFORMED
