"""Which numbers a set of ranges holds: the same as a set of numbers, until there are too many ranges."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from collector.sinks import known
from collector.sinks.known import MOST_LINES, Known, Ranges, digest

if TYPE_CHECKING:
    import pytest


@given(st.lists(st.lists(st.integers(1, 60))))
def test_ranges_hold_the_same_as_a_set(added: list[list[int]]) -> None:
    ranges, numbers = Ranges(), set[int]()
    for some in added:
        ranges.add(some)
        numbers.update(some)
        assert {number for number in range(63) if number in ranges} == numbers
        found = ranges.all()
        assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(found))
    assert Ranges(ranges.all()).all() == ranges.all()


def test_of_too_many_ranges_the_lowest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_RANGES", 3)
    ranges = Ranges()
    ranges.add(range(0, 20, 2))
    assert ranges.all() == [(14, 14), (16, 16), (18, 18)]


def test_of_too_many_lines_those_that_were_read_last_are_known() -> None:
    both = Known()
    both.read_back([digest(b"old")])
    both.read_back([digest(b"%d" % number) for number in range(MOST_LINES)])
    assert both._was_read(b"7")
    assert not both._was_read(b"old")
    assert len(both.lines) == 12 * MOST_LINES
