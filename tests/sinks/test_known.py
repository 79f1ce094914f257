"""Which numbers a set of ranges holds: the same as a set of numbers, until there are too many ranges."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from collector.sinks import known
from collector.sinks.known import LINES_KEPT, MOST_LINES, Known, Ranges, digest
from tests.support.fakes import delivery, entry
from transfer.jetstream.durable_needs import MAX_ACK_PENDING

if TYPE_CHECKING:
    import pytest


@given(st.lists(st.integers(1, 30)), st.integers(1, 31))
def test_ranges_forget_from_a_number_on(added: list[int], first: int) -> None:
    ranges = Ranges()
    ranges.add(added)
    ranges.forget_from(first)
    assert {number for number in range(32) if number in ranges} == {number for number in added if number < first}
    assert ranges.highest == max((number for number in added if number < first), default=0)


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


def test_as_many_gaps_are_remembered_as_messages_can_be_in_hand() -> None:
    ranges = Ranges()
    ranges.add(range(0, MAX_ACK_PENDING, 2))
    assert 0 in ranges
    assert len(ranges.all()) == MAX_ACK_PENDING // 2


def test_lines_are_let_go_when_none_has_come_again_for_long() -> None:
    known, line = Known(), b"there"
    known.read_back([digest(line)])
    for now in (0.0, LINES_KEPT - 1):
        known.look_at_lines(now)
        assert not known.fresh([entry(delivery(1))], [line])
    known.look_at_lines(LINES_KEPT)
    known.look_at_lines(2 * LINES_KEPT - 1)
    assert known.lines
    known.look_at_lines(2 * LINES_KEPT)
    assert known.lines == b""
