"""Whatever is given to `send` becomes an entry that the collector stores."""

from __future__ import annotations

import inspect
import sys
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING, Any

import bson
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decoding.codec import Codec
from tests.support.fakes import ATTACHED, delivery
from tests.transfer.anything import ANYTHING, HUGE, KEYS, ODD, unhurried
from tests.transfer.odd_values import Broken, Silent, Unspeakable, deep, growing, recursive
from transfer.entries.entry import encode_entry, new_id
from transfer.entries.lenient import encode_anything
from transfer.entries.plain import DEEPEST

if TYPE_CHECKING:
    from collections.abc import Callable


def stored(data: object, timestamp: object = 0, metadata: object = None) -> dict[str, Any]:
    """Return the document that the collector makes of it, when MongoDB takes it."""
    body = encode_anything(data, timestamp, metadata, new_id())
    opened = Codec(ATTACHED.incarnation).decode(delivery(1, body))
    assert opened.rejects == []
    document = opened.entries[0].document
    assert bson.decode(bson.encode(document))
    return document


@unhurried
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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Silent("s3cret"), "Silent()"),
        (1 << 70, str(1 << 70)),
        ("\ud800", "\\ud800"),
        ("x" * 20_000 + "\ud800", "x" * 20_000 + "\\ud800"),
        (Unspeakable(), "<Unspeakable whose repr failed: RuntimeError>"),
        (Broken(), None),
        (1 << 100_000, f"{hex(1 << 100_000)[:10_000]}… (25,003 characters)"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))), "9999-12-31T23:59:59.999999-23:00"),
        (growing(), {"growing": "growing", "neighbour": 1, "2": "grown"}),
    ],
    ids=lambda value: type(value).__name__,  # pytest would write out the integers
)
def test_a_value_that_cannot_be_stored_is_its_text_and_its_neighbours_are_as_they_were(
    value: object, expected: str | None
) -> None:
    document = stored({"value": value, "neighbour": [1, {"a": True}]})
    assert document["neighbour"] == [1, {"a": True}]
    assert expected is None or document["value"] == expected


@pytest.mark.parametrize("value", [recursive(), deep()], ids=["recursive", "deep"])
def test_what_has_no_end_ends(value: object) -> None:
    assert len(bson.encode({"": stored({"value": value})["value"]})) < 50_000


@pytest.mark.parametrize("make", HUGE, ids=range(len(HUGE)))
def test_what_has_too_many_values_ends_and_says_so(make: Callable[[], object]) -> None:
    body = encode_anything({"before": 1, "value": make()}, 0, None, new_id())
    assert b"has room for 1,048,576 values" in body
    assert msgspec.msgpack.decode(body)["data"]["before"] == 1


@pytest.mark.parametrize("make", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("moment", [0, datetime(2026, 11, 27, tzinfo=UTC)], ids=["number", "datetime"])
def test_each_odd_value_is_stored_beside_any_other(make: Callable[[], object], moment: object) -> None:
    data = {"value": make(), "neighbour": moment, 1: make(), "list": [make(), moment], "map": {"value": make()}}
    document = stored(data, moment, {"value": make(), "neighbour": moment})
    assert document.keys() == {"_id", "value", "neighbour", "1", "list", "map", "timestamp", "metadata"}
    assert document["neighbour"] == document["list"][1] == document["metadata"]["neighbour"]


@pytest.mark.parametrize("levels", [10, 30, 99, 100, 101, 180, 181, 200, 1000])
def test_however_deep_it_is_mongodb_takes_it(levels: int) -> None:
    depth = 0
    value: object = stored({"value": deep(levels)})
    while isinstance(value, (dict, list)):
        value = value[-1] if isinstance(value, list) else value.get("value", value.get("deeper"))
        depth += 1
    assert depth == min(levels + 1, DEEPEST)


@given(seed=st.integers(0, 1 << 32))
def test_no_field_of_a_mapping_is_lost_whatever_its_keys_are(seed: int) -> None:
    keys = [make() for make in Random(seed).sample(KEYS, 6)]  # noqa: S311 - the same keys from the same seed
    data = {key: number for number, key in enumerate(keys)}
    assert sorted(stored({"value": data})["value"].values()) == sorted(data.values())


@pytest.mark.parametrize("own", [[1], {"$oid": "5"}, {"a": {"$b": 1}}, (1, 2), {1}])
def test_an_id_that_mongodb_takes_from_nobody_is_another_field(own: object) -> None:
    document = stored({"_id": own, "_id_": 1})
    assert isinstance(document["_id"], bson.ObjectId)
    assert document["_id__"] in (own, [1], [1, 2])


@pytest.mark.parametrize("name", ["timestamp", "metadata"])
def test_fields_named_as_those_of_the_document_keep_their_place_under_another_name(name: str) -> None:
    document = stored({"a": 1, name: "mine", f"{name}_": "too", "b": 2}, 0, {"host": "web-1"})
    assert [field for field in document if field != "_id"][:4] == ["a", f"{name}__", f"{name}_", "b"]
    assert (document[f"{name}__"], document[f"{name}_"], document["metadata"]) == ("mine", "too", {"host": "web-1"})


def test_what_the_application_ends_with_goes_through() -> None:
    class Ending:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_anything({"value": Ending()}, 0, None, new_id())


def test_with_almost_no_stack_left_there_is_an_entry_all_the_same() -> None:
    def logged_at(left: int) -> bytes:
        return logged_at(left - 1) if left else encode_anything({"value": deep(50), "n": 1}, 0, {"a": [1]}, new_id())

    room = sys.getrecursionlimit() - len(inspect.stack(0))
    for frames in range(room - 100, room - 15):
        assert msgspec.msgpack.decode(logged_at(frames))["data"]


def test_names_that_are_no_text_or_hold_a_nul_become_text() -> None:
    assert set(stored({1: "a", None: "b", "x\0y": "c"})) == {"_id", "1", "None", "x\\0y", "timestamp", "metadata"}


def test_data_that_is_no_mapping_is_a_message_and_a_moment_that_is_none_is_now() -> None:
    document = stored("started", "yesterday", "web-1")
    assert (document["msg"], document["metadata"]) == ("started", {"metadata": "web-1"})
    assert abs(document["timestamp"].replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() < 60
