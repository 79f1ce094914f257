"""A document that no line can hold is refused, and takes no other entry of its batch along."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model import Reason
from collector.sinks.lines import Lines
from tests.support.fakes import delivery, entry

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=5) | st.text(max_size=5)
NAMES = PLAIN | st.tuples(PLAIN) | st.datetimes() | st.text(st.characters(categories=["Cs"]), max_size=3)
VALUES = st.recursive(
    PLAIN | st.datetimes() | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        {None: 1},
        {True: 1},
        {(1, 2): 1},
        {b"a": {None: b""}},
        [{"a": {False: 1}}],
        deep(100_000),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=2))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-2))),
    ],
)
def test_other_entries_of_the_batch_have_their_lines(value: Any) -> None:
    entries = [entry(delivery(1), number=1), entry(delivery(2), value=value), entry(delivery(3), number=3)]
    lines = Lines(entries)
    assert [one for one in lines.entries if one is not entries[1]] == [entries[0], entries[2]]
    assert len(lines.entries) + len(lines.refused) == 3
    assert all(one.reason is Reason.DOCUMENT_INVALID and one.error.startswith("expected") for one in lines.refused)


@pytest.mark.parametrize("name", [None, True, (1, 2)])
def test_a_field_whose_name_is_no_text_is_refused(name: Any) -> None:
    (refused,) = Lines([entry(delivery(1), value={name: 1})]).refused
    assert "text as the name" in refused.error


@given(st.lists(VALUES, max_size=4))
def test_any_value_is_a_line_or_a_refusal(values: list[Any]) -> None:
    entries = [entry(delivery(number), value=value) for number, value in enumerate(values, 1)]
    lines = Lines(entries)
    assert len(lines.entries) + len(lines.refused) == len(entries)
    for line in lines.lines:
        assert line.count(b"\n") == 1
        json.loads(line)
