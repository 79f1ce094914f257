"""The moments at which a replica does together what can wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.flow.ticks import LONGEST_WAIT, between_reads, end_of, next_tick, tick_of

AGES = st.floats(1e-4, 1e5)
MOMENTS = st.floats(0, 1e6)


@given(AGES, st.floats(0.9, 1.0))
def test_a_tick_is_a_small_part_of_an_age_and_the_same_for_ages_that_differ_by_little(age: float, part: float) -> None:
    assert min(age / 24, 1 / 8) < tick_of(age) <= min(age / 3.5, 1 / 4)
    assert tick_of(age * part) in {tick_of(age), tick_of(age) / 2, tick_of(age) / 4}


@given(MOMENTS, AGES)
def test_all_of_a_replica_have_the_same_ticks(moment: float, age: float) -> None:
    tick = tick_of(age)
    found = next_tick(moment, tick)
    assert moment <= found <= moment + tick
    assert (found / tick).is_integer()
    assert next_tick(found, tick) == found
    assert next_tick(found, 2 * tick) in {found, found + tick}, "a longer tick is one of the shorter ones"


@given(MOMENTS, AGES)
def test_a_batch_leaves_at_most_its_age_after_the_read_before_its_first_entry_was_read(now: float, age: float) -> None:
    """The entry may have come just after a read, and waited for the next one."""
    read = now + between_reads(now, age)
    assert read < end_of(read, age)
    assert end_of(read, age) - now <= age * 1.26


@pytest.mark.parametrize("age", [0.25, 0.5, 0.9, 1.0, 1.5])
def test_where_reads_wait_for_ticks_a_batch_leaves_with_what_came_in_its_age_and_late_by_an_eighth_at_most(
    age: float,
) -> None:
    """An entry has waited for a whole tick when it is read. The last read is that of the tick after which it leaves."""
    tick = tick_of(age)
    for part in range(100):
        read = 1000 + part * tick / 100
        waited = end_of(read, age) - 1000 + tick
        reads = (end_of(read, age) - 1000) // tick + 1
        assert age * 0.85 <= reads * tick <= waited <= age * 1.15


def test_of_a_hundred_loggers_those_that_were_read_together_leave_together_whatever_chance_takes_from_their_age() -> (
    None
):
    ages = [0.9 + 0.001 * number for number in range(101)]
    assert len({end_of(1000.004 + age / 1000, age) for age in ages}) == 1


@given(MOMENTS, AGES)
def test_a_read_waits_for_a_third_of_the_age_at_most(now: float, age: float) -> None:
    assert 0 < between_reads(now, age) <= min(age / 3, LONGEST_WAIT) + 1e-6


@pytest.mark.parametrize("age", [0.25, 0.5, 0.9, 1.0, 1.5])
def test_reads_come_at_the_ticks_at_which_batches_leave(age: float) -> None:
    now, tick, reads = 1000.003, tick_of(age), list[float]()
    for _ in range(10):
        reads.append(now + between_reads(now, age))
        assert (reads[-1] / tick).is_integer()
        now = reads[-1] + 0.002  # it takes a while to handle what was read
    assert reads[-1] - reads[0] == pytest.approx(9 * tick)


@pytest.mark.parametrize(("age", "wait"), [(0.0, 0.0), (0.001, 0.0001), (0.1, 0.01), (0.2, 0.01)])
def test_while_batches_leave_soon_reads_wait_ten_milliseconds_at_most(age: float, wait: float) -> None:
    assert between_reads(1000.003, age) == pytest.approx(wait)
