"""The room of the outbox is shared: loggers whose streams take nothing leave room for the others."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.background.drops import Dropped
from transfer.background.lane import OBJECTS, Limits
from transfer.background.outbox import Outbox
from transfer.options import Overflow

if TYPE_CHECKING:
    from transfer.background.lane import Bundle

ID = b"x" * 12
ENTRIES, BYTES = 1000, 1_000_000
DROPPING = [Overflow.DROP_NEWEST, Overflow.DROP_OLDEST]


def fill(box: Outbox, key: str, entries: int, size: int, *, important: bool = False) -> None:
    for _ in range(entries):
        box.add(key, ID, bytes(size), important=important, may_block=False)


def queued(box: Outbox, key: str) -> int:
    """Return how many entries of a logger wait or are on their way."""
    lane = box._lanes.get(key)
    return lane.entries if lane else 0


_sends = st.tuples(st.just("send"), st.integers(0, 9), st.integers(1, 1500), st.integers(0, 9000), st.booleans())
_takes = st.tuples(st.just("take"), st.integers(1, 64), st.integers(1, 500), st.integers(1, 600_000))


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.one_of(_sends, _takes), max_size=20), overflow=st.sampled_from(DROPPING), mine=st.booleans())
def test_a_logger_finds_its_part_of_the_room_whatever_the_others_have_sent(
    steps: list[tuple[object, ...]], overflow: Overflow, mine: bool
) -> None:
    """Nothing of the others is ever confirmed: what was taken stays on its way."""
    box = Outbox(overflow, ENTRIES, BYTES)
    for step in steps:
        match step:
            case ("send", int(number), int(entries), int(size), bool(important)):
                fill(box, f"dead{number}", entries, size, important=important)
            case ("take", int(bundles), int(entries), int(size)):
                box.take(Limits(bundles, entries, size))
    loggers = len(box._lanes) + 1
    part, room = ENTRIES // (5 * loggers) - 2, BYTES // (5 * loggers)
    size = room // (2 * part) - OBJECTS
    fill(box, "good", part, max(0, size), important=mine)
    assert queued(box, "good") == part
    assert box.entries <= ENTRIES
    assert box.bytes <= BYTES


@pytest.mark.parametrize("overflow", DROPPING)
def test_the_entry_that_gives_way_is_ordinary_and_of_the_logger_with_the_most_waiting(overflow: Overflow) -> None:
    box = Outbox(overflow, 100, BYTES)
    fill(box, "most", 30, 1)
    fill(box, "most", 5, 1, important=True)
    fill(box, "less", 55, 1)
    fill(box, "good", 27, 1)
    fill(box, "most", 10, 1, important=True)
    assert (queued(box, "most"), queued(box, "less"), queued(box, "good")) == (41, 32, 27)
    important = box._lanes["most"].important
    assert len([one for one in important if hasattr(one, "id")]) == 15
    assert box.dropped == {Dropped.OVERFLOW: 27}


@pytest.mark.parametrize("overflow", DROPPING)
def test_a_large_entry_takes_the_room_of_as_many_as_it_needs(overflow: Overflow) -> None:
    box = Outbox(overflow, ENTRIES, 100_000)
    fill(box, "dead", ENTRIES, 800)
    fill(box, "good", 1, 9_800)
    assert queued(box, "good") == 1
    assert box.dropped == {Dropped.OVERFLOW: ENTRIES - 90 + 10}
    fill(box, "good", 1, 60_000)
    assert queued(box, "good") == 1, "more than half of what the other has"


@pytest.mark.parametrize("overflow", DROPPING)
@pytest.mark.parametrize("loggers", [2, 30])
def test_loggers_that_overflow_together_end_with_equal_parts(overflow: Overflow, loggers: int) -> None:
    box = Outbox(overflow, ENTRIES, BYTES)
    for number in range(loggers):
        fill(box, str(number), 2 * ENTRIES, 1)
    parts = [queued(box, str(number)) for number in range(loggers)]
    assert max(parts) - min(parts) <= 2, parts
    assert sum(parts) == ENTRIES - ENTRIES // 10


def test_half_of_the_room_is_on_its_way_and_one_small_bundle_of_each_logger() -> None:
    box = Outbox(Overflow.DROP_NEWEST, ENTRIES, BYTES)
    for number in range(10):
        fill(box, str(number), 2 * ENTRIES, 1)
    limits = Limits(64, 50, 1 << 20)
    taken: list[Bundle] = []
    while bundles := box.take(limits):
        taken += bundles
    assert {bundle.lane.key for bundle in taken} == {str(number) for number in range(10)}
    assert sum(bundle.counted for bundle in taken) <= 450 + 10 * 25
    for bundle in taken:
        box.finish(bundle)
    assert box.look(lambda: None, limits)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("dead", [1, 4])
def test_who_blocks_for_one_logger_leaves_room_for_others(dead: int) -> None:
    box = Outbox(Overflow.BLOCK, ENTRIES, BYTES)
    started: list[Thread] = []

    def send(key: str, entries: int) -> Thread:
        def run() -> None:
            for _ in range(entries):
                box.add(key, ID, b"x", important=False, may_block=True)

        started.append(thread := Thread(target=run, daemon=True))
        thread.start()
        return thread

    for number in range(dead):
        send(f"dead{number}", 2 * ENTRIES)
        while box._waiter._waiting < number + 1:
            started[-1].join(0.001)
        box.take(Limits(64, 500, 1 << 20))
    good = send("good", 10)
    good.join(20)
    assert not good.is_alive()
    assert queued(box, "good") == 10
    assert box.dropped == {}
    box.close()
    for thread in started:
        thread.join(20)
