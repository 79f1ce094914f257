"""The memory of all open cuts: at its end one of them is due, and a small one never before a larger one."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from collector.archive.buffer import Buffer

LIMIT = 1000


@given(st.lists(st.integers(0, LIMIT), min_size=1, max_size=40))
def test_while_all_is_used_up_the_larger_cuts_are_due(sizes: list[int]) -> None:
    buffer = Buffer(LIMIT)
    cuts = [buffer.begin() for _ in sizes]
    for cut, size in zip(cuts, sizes, strict=True):
        cut.bytes = size
    due = [cut.bytes for cut in cuts if cut.is_full]
    assert bool(due) == (sum(sizes) >= LIMIT)
    if due:
        assert max(sizes) in due
        assert all(size in due for size in sizes if size > min(due))


def test_a_cut_counts_until_nothing_holds_it_and_a_full_disk_is_said_all_the_same() -> None:
    buffer = Buffer(LIMIT)
    cut, other = buffer.begin(), buffer.begin()
    cut.bytes, other.bytes = LIMIT, 1
    assert (buffer.used, cut.is_full, other.is_full) == (LIMIT + 1, True, False)
    del cut
    gc.collect()
    assert (buffer.used, other.is_full) == (1, False)
    other.disk_full = True
    assert other.is_full
