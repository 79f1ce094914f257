"""Whatever is given to `send` becomes an entry that the collector stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import bson
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.codec import Codec
from tests.actors.fakes import ATTACHED, delivery
from tests.transfer.anything import ANYTHING, Unspeakable
from transfer.entry import encode_entry, new_id
from transfer.lenient import encode_anything


def stored(data: object, timestamp: object = 0, metadata: object = None) -> dict[str, Any]:
    """Return the document that the collector makes of it, when MongoDB takes it."""
    body = encode_anything(data, timestamp, metadata, new_id())
    opened = Codec(ATTACHED.incarnation).open(delivery(1, body))
    assert opened.rejects == []
    document = opened.entries[0].document
    assert bson.decode(bson.encode(document))
    return document


@given(data=ANYTHING, timestamp=ANYTHING, metadata=ANYTHING)
def test_anything_is_stored(data: object, timestamp: object, metadata: object) -> None:
    stored(data, timestamp, metadata)


@given(
    data=st.dictionaries(st.text("abc", min_size=1), st.integers(-(1 << 63), (1 << 63) - 1) | st.text() | st.floats())
)
def test_what_can_be_encoded_has_the_same_bytes(data: dict[str, object]) -> None:
    entry_id = new_id()
    try:
        expected = encode_entry(data, 7, {"host": "web-1"}, entry_id)
    except ValueError:  # a lone surrogate
        return
    assert encode_anything(data, 7, {"host": "web-1"}, entry_id) == expected


class Broken(Mapping[str, object]):
    """A mapping that fails when it is read."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("gone")

    def __len__(self) -> int:
        return 1


@dataclass
class Order:
    number: int


def recursive() -> dict[str, object]:
    inside: dict[str, object] = {"list": []}
    inside["self"] = inside
    inside["list"] = [inside]
    return inside


def deep() -> object:
    value: object = 1
    for _ in range(10_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Order(7), "Order(number=7)"),
        (Decimal("1.5"), "Decimal('1.5')"),
        (1 << 70, str(1 << 70)),
        ({1}, "{1}"),
        ("\ud800", "\\ud800"),
        (Unspeakable(), "<Unspeakable whose repr failed: RuntimeError>"),
        (Broken(), None),
        (1 << 100_000, "<int whose repr failed: ValueError>"),
        ("x" * 20_000 + "\ud800", "x" * 10_000 + "… (20,001 characters)"),
    ],
    ids=lambda value: type(value).__name__,  # pytest would write out the integers
)
def test_a_value_that_cannot_be_stored_is_its_repr_and_its_neighbours_are_as_they_were(
    value: object, expected: str | None
) -> None:
    document = stored({"value": value, "neighbour": [1, {"a": True}]})
    assert document["neighbour"] == [1, {"a": True}]
    assert expected is None or document["value"] == expected


@pytest.mark.parametrize("value", [recursive(), deep()], ids=["recursive", "deep"])
def test_what_has_no_end_ends(value: object) -> None:
    assert len(msgspec.msgpack.encode(stored({"value": value})["value"])) < 50_000


def test_names_that_are_no_text_or_hold_a_nul_become_text() -> None:
    assert set(stored({1: "a", None: "b", "x\0y": "c"})) == {"_id", "1", "None", "x\\0y", "timestamp", "metadata"}


def test_data_that_is_no_mapping_is_a_message_and_a_moment_that_is_none_is_now() -> None:
    document = stored("started", "yesterday", "web-1")
    assert (document["msg"], document["metadata"]) == ("started", {"metadata": "web-1"})
    assert abs(document["timestamp"].replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() < 60
