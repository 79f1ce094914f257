"""The line of an entry: one JSON object whatever the document holds, and always the same one."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import DatetimeMS, Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from collector.model import Reason
from collector.sinks.lines import Lines
from tests.support.fakes import delivery, entry
from transfer.ndjson import json_object

MOMENT = datetime(2030, 1, 31, 12, 0, 0, 250_000)  # noqa: DTZ001 - times in documents are in UTC, without a zone
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=20)
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (Int64(7), 7),
        (2**63, 2**63),
        (2**80, 2**80),
        (0.5, 0.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        ("a\n\u2028\x00", "a\n\u2028\x00"),
        ("\ud800", "\ud800"),
        (b"\x00\xff", "AP8="),
        (ObjectId("665f1f77bcf86cd799439011"), "665f1f77bcf86cd799439011"),
        (MOMENT, "2030-01-31T12:00:00.250Z"),
        (MOMENT + timedelta(microseconds=1), "2030-01-31T12:00:00.250001Z"),
        (MOMENT.replace(tzinfo=UTC), "2030-01-31T12:00:00.250Z"),
        (MOMENT.replace(tzinfo=timezone(timedelta(hours=2))), "2030-01-31T10:00:00.250Z"),
        (DatetimeMS(-(2**60)), -(2**60)),
        (Decimal128("1.50"), "1.50"),
        ([1, {"a": [math.nan, MOMENT]}], [1, {"a": ["nan", "2030-01-31T12:00:00.250Z"]}]),
    ],
)
def test_a_value_stands_in_a_line_as_documented(value: Any, expected: Any) -> None:
    assert json.loads(json_object({"value": value, "after": 1})) == {"value": expected, "after": 1}


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_every_document_is_one_line_of_json_and_always_the_same(document: dict[str, Any]) -> None:
    line = json_object(document)
    assert b"\n" not in line
    assert list(json.loads(line)) == list(document)
    assert json_object(document) == line


def test_an_entry_that_no_line_can_hold_is_refused_and_its_neighbours_are_not() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    lines = Lines([entry(delivery(1)), entry(delivery(2), deep=deep), entry(delivery(3))])
    assert [one.delivery.sequence for one in lines.entries] == [1, 3]
    assert [json.loads(line)["_id"] for line in lines.lines] == [str(one.document["_id"]) for one in lines.entries]
    assert [(one.entry.delivery.sequence, one.reason) for one in lines.refused] == [(2, Reason.DOCUMENT_INVALID)]
