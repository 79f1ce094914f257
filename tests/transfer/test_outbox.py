"""The outbox without any thread: what it holds, what it drops, what it says of that."""

from __future__ import annotations

from collections import Counter
from threading import Thread
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.background.drops import Dropped
from transfer.background.lane import Bundle, Limits, Queued
from transfer.background.outbox import Outbox
from transfer.options import Overflow

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 64
ID = b"x" * 12


def outbox(overflow: Overflow = Overflow.DROP_NEWEST, entries: int = 100, size: int = 1 << 20) -> Outbox:
    return Outbox(overflow, entries, size)


def add(box: Outbox, *bodies: bytes, key: str = "a", important: bool = False) -> None:
    for body in bodies:
        box.add(key, ID, body, important=important, may_block=False)


def take(box: Outbox, entries: int = 1000, size: int = 1 << 20) -> list[Bundle]:
    """Take what may be on its way at once, half of the room."""
    return box.take(Limits(MOST, entries, size))


def take_all(box: Outbox) -> list[Bundle]:
    """Take everything, and have it confirmed."""
    taken = []
    while bundles := take(box):
        taken += bundles
        for bundle in bundles:
            box.finish(bundle)
    return taken


def bodies(bundles: list[Bundle]) -> list[bytes | str]:
    """Return the bodies, of a marker what it says is missing."""
    return [
        entry.body if entry.number else f"{msgspec.msgpack.decode(entry.body)['data']['dropped']} missing"
        for bundle in bundles
        for entry in bundle.entries
    ]


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("ab"), st.integers(0, 400), st.booleans()),
            st.tuples(st.just("take"), st.integers(1, 5), st.integers(1, 500)),
            st.tuples(st.just("finish"), st.integers(0, 3), st.sampled_from([None, Dropped.UNKNOWN_LOGGER])),
        ),
        max_size=80,
    ),
    overflow=st.sampled_from([Overflow.DROP_NEWEST, Overflow.DROP_OLDEST]),
)
def test_whatever_happens_the_bounds_hold_and_each_entry_is_counted_once(
    steps: list[tuple[object, ...]], overflow: Overflow
) -> None:
    box, on_their_way, taken, came = outbox(overflow, entries=20, size=5000), list[Bundle](), list[Bundle](), 0
    for step in steps:
        match step:
            case ("add", str(key), int(size), bool(important)):
                add(box, b"x" * size, key=key, important=important)
                came += 1
            case ("take", int(entries), int(size)):
                bundles = take(box, entries, size)
                on_their_way += bundles
                taken += bundles
                assert all(0 < len(bundle.entries) <= entries for bundle in bundles)
            case ("finish", int(place), why) if place < len(on_their_way):
                box.finish(on_their_way.pop(place), why)  # type: ignore[arg-type]
        assert 0 <= box.entries <= 20
        assert 0 <= box.bytes <= 5000
        assert box.published + box.dropped.total() + box.entries == came
    for bundle in on_their_way:
        box.finish(bundle)
    taken += take_all(box)
    assert (box.entries, box.bytes) == (0, 0)
    assert box.published + box.dropped.total() == came
    assert box.flush(0)
    missing = [int(said.removesuffix(" missing")) for said in bodies(taken) if isinstance(said, str)]
    assert sum(missing) == box.dropped[Dropped.OVERFLOW]


def test_the_newest_is_dropped_and_a_marker_stands_where_it_would_have_been() -> None:
    box = outbox(entries=10)
    add(box, *numbered(12))  # a tenth is kept free
    box.finish(take(box, entries=4)[0])
    add(box, *numbered(2, 20))
    assert bodies(take_all(box)) == [b"4", b"5", b"6", b"7", b"8", "3 missing", b"20", b"21"]
    assert box.dropped == Counter({Dropped.OVERFLOW: 3})


def test_the_oldest_is_dropped_and_a_marker_stands_where_it_was() -> None:
    box = outbox(Overflow.DROP_OLDEST, entries=10)
    add(box, *numbered(12))
    assert bodies(take_all(box)) == ["3 missing", *numbered(9, 3)]


def test_a_tenth_of_entries_and_of_bytes_is_kept_for_important_ones() -> None:
    for box in (outbox(entries=10), outbox(size=10 * 201)):
        add(box, *[b"x"] * 10)
        assert box.entries == 9
        add(box, b"!", important=True)
        add(box, b"!", important=True)
        assert (box.entries, box.dropped) == (10, {Dropped.OVERFLOW: 2})


def test_a_bundle_ends_at_its_entries_and_at_its_bytes_and_holds_one_at_least() -> None:
    box = outbox()
    add(box, b"x" * 50, b"x" * 50, b"x", b"x" * 500)
    sizes = [len(one.entries) for _ in range(4) for one in take(box, entries=2, size=60)]
    assert sizes == [1, 2, 1]


def test_one_logger_has_only_so_many_bundles_on_their_way_and_holds_up_no_other() -> None:
    box = outbox()
    add(box, *numbered(5), key="a")
    add(box, b"other", key="b")
    first = box.take(Limits(2, 1, 1000))
    second = box.take(Limits(2, 1, 1000))
    assert bodies(first + second) == [b"0", b"other", b"1"]
    assert box.take(Limits(2, 1, 1000)) == []
    box.finish(first[0])
    assert bodies(box.take(Limits(2, 1, 1000))) == [b"2"]


def test_who_waits_for_something_to_take_is_called_once() -> None:
    box, called = outbox(), list[int]()
    assert box.look(lambda: called.append(1), Limits(MOST, 10, 1000)) == 0
    add(box, b"x", b"x")
    assert called == [1]
    assert box.look(lambda: called.append(2), Limits(MOST, 10, 1000)) == 2
    assert called == [1]


def test_flush_waits_for_what_came_before_it_and_not_for_what_comes_after() -> None:
    box = outbox()
    add(box, *numbered(3))
    first = take(box, entries=2)[0]
    second = take(box)[0]
    assert not box.flush(0)
    add(box, b"later")
    box.finish(second)
    assert not box.flush(0), "the older one is still on its way"
    flushed: list[bool] = []
    flushing = Thread(target=lambda: flushed.append(box.flush(10)))
    flushing.start()
    box.finish(first)
    box.finish(take(box)[0])
    flushing.join(10)
    assert flushed == [True]


def test_who_blocks_goes_on_when_there_is_room_and_when_it_is_over() -> None:
    box = outbox(Overflow.BLOCK, entries=10)
    add(box, *numbered(9))

    def blocked() -> Thread:
        thread = Thread(target=lambda: box.add("a", ID, b"waited", important=False, may_block=True), daemon=True)
        thread.start()
        while not box._waiter._waiting and thread.is_alive():
            thread.join(0.001)
        return thread

    thread = blocked()
    while thread.is_alive():  # until its logger has less than is left
        box.finish(take(box, entries=1)[0])
        thread.join(0.05)
    assert box.entries >= 5
    thread = blocked()
    left = box.entries
    assert box.close() == left
    thread.join(20)
    assert not thread.is_alive()
    assert box.dropped[Dropped.CLOSED] == left + 1


def test_a_child_has_nothing_of_its_parent() -> None:
    box = outbox()
    add(box, *numbered(3))
    box.close()
    box.forked()
    assert (box.entries, box.bytes, box.published, box.dropped) == (0, 0, 0, {})
    assert take(box) == []
    add(box, b"mine")
    assert bodies(take_all(box)) == [b"mine"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_marker_counts_for_nothing(number: int) -> None:
    box = outbox()
    add(box, b"x")
    bundle = take(box)[0]
    box.finish(bundle.lane.bundle([*bundle.entries, *[Queued(0, ID, b"marker")] * number], bundle.first))
    assert (box.published, box.entries, box.bytes) == (1, 0, 0)


@pytest.mark.parametrize("overflow", Overflow)
@pytest.mark.parametrize(("size", "important"), [(900, False), (1000, True), (20_000, False), (20_000, True)])
def test_an_entry_that_never_fits_waits_for_nothing_and_drives_out_nothing(
    overflow: Overflow, size: int, important: bool
) -> None:
    box = outbox(overflow, entries=10, size=1000)
    add(box, *numbered(2))
    adding = Thread(target=lambda: box.add("a", ID, b"x" * size, important=important, may_block=True), daemon=True)
    adding.start()
    adding.join(10)
    assert not adding.is_alive()
    assert box.dropped == {Dropped.TOO_LARGE: 1}
    assert bodies(take_all(box)) == [b"0", b"1", "1 missing"]


@pytest.mark.parametrize("end", [Outbox.close, Outbox.clear])
def test_a_confirmation_that_comes_after_the_end_counts_nothing(end: Callable[[Outbox], int]) -> None:
    box = outbox()
    add(box, *numbered(3))
    bundle = take(box)[0]
    assert end(box) == 3
    box.finish(bundle)
    assert (box.entries, box.bytes, box.published, box.dropped) == (0, 0, 0, {Dropped.CLOSED: 3})


def test_flush_waits_for_the_marker_of_what_was_dropped() -> None:
    box = outbox(entries=10)
    add(box, *numbered(12))
    while box.entries:
        box.finish(take(box, entries=min(4, box.entries))[0])
    assert (box.entries, box.flush(0), box.is_idle) == (0, False, False)
    (marker,) = take(box)
    assert bodies([marker]) == ["3 missing"]
    assert not box.flush(0)
    box.finish(marker)
    assert (box.flush(0), box.is_idle) == (True, True)
