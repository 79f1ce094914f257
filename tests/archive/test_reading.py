"""What an owner has received: repeats, gaps, the count, and where it begins."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.reading import (
    NOTHING,
    Count,
    Doubt,
    DurableFacts,
    Reading,
    Slice,
    Verdict,
    expired,
    read_slice,
    went_back,
)
from tests.archive.test_record import members_of, record_of

if TYPE_CHECKING:
    from collector.jetstream.parser import AnyFrame


def frame(sequence: int, number: int, head: str = "$JS.ACK.orders.cap", tail: str = "", delivered: int = 1) -> AnyFrame:
    reply = f"{head}.{delivered}.{sequence}.{number}.{sequence * 10}.7{tail}".encode()
    return b"orders.new", reply, b"", b"body %d" % sequence


def came(*pairs: tuple[int, int]) -> Slice:
    return read_slice([frame(*pair) for pair in pairs], "orders", "cap")


@pytest.mark.parametrize(
    ("head", "tail"), [("$JS.ACK.orders.cap", ""), ("$JS.ACK.hub.Abc9.orders.cap", ".x1y2")], ids=["plain", "domain"]
)
def test_a_slice_has_the_facts_of_all_its_deliveries(head: str, tail: str) -> None:
    frames = [frame(5, 1, head, tail), frame(9, 2, head, tail, delivered=3)]
    assert read_slice(frames, "orders", "cap") == Slice([5, 9], [1, 2], [50, 90], [1, 3], frames)
    assert read_slice([], "orders", "cap") == NOTHING


@pytest.mark.parametrize(
    "foreign",
    [
        (b"x", b"", b"", b"anybody may publish to an inbox"),
        (b"x", b"$JS.ACK.orders.cap.1.2", b"", b""),
        (b"x", b"$JS.ACK.others.cap.1.6.2.3.4", b"", b""),
        (b"x", b"$JS.ACK.orders.other.1.6.2.3.4", b"", b""),
        (b"x", b"$JS.ACK.orders.cap.1.six.2.3.4", b"", b""),
        (b"x", b"a.b.c.d.1.6.2.3.4", b"", b""),
    ],
)
def test_a_frame_that_is_no_delivery_is_left_out(foreign: tuple[bytes, bytes, bytes, bytes]) -> None:
    frames = [frame(5, 1), foreign, frame(6, 2)]
    assert read_slice(frames, "orders", "cap").sequences == [5, 6]


def test_what_is_new_is_taken_what_is_archived_is_acked_and_what_is_held_is_dropped() -> None:
    reading = Reading(cursor=10)
    taken = reading.take(came((9, 1), (11, 2), (10, 3), (12, 4), (11, 5)))
    assert (taken.new.sequences, taken.archived) == ([11, 12], [9, 10])
    assert [body for *_, body in taken.new.frames] == [b"body 11", b"body 12"]
    assert (reading.highest, reading.number, reading.held, reading.doubt) == (12, 5, 2, None)
    reading.settled(12, 2)
    again = reading.take(came((12, 6), (13, 7)))
    assert (again.new.sequences, again.archived, reading.held) == ([13], [12], 1)


@pytest.mark.parametrize("pairs", [[(11, 2)], [(11, 1), (12, 3)], [(11, 1), (12, 1)], [(9, 2), (11, 3)]])
def test_a_gap_is_a_doubt_on_repeats_too_and_then_nothing_is_taken_any_more(pairs: list[tuple[int, int]]) -> None:
    reading = Reading(cursor=10)
    assert reading.take(came(*pairs)) == (NOTHING, [])
    assert reading.doubt is Doubt.GAP
    assert reading.take(came((11, 1))) == (NOTHING, [])


@settings(deadline=None)
@given(
    st.integers(0, 5),
    st.lists(st.integers(1, 25), max_size=60),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_any_history_without_a_gap_is_held_once(cursor: int, sequences: list[int], cuts: list[int]) -> None:
    """However it is sliced: all above the cursor that rose is new, once and in order."""
    pairs = list(zip(sequences, range(1, len(sequences) + 1), strict=True))
    reading, new, archived = Reading(cursor), list[int](), list[int]()
    edges = [0, *sorted(edge for edge in cuts if edge < len(pairs)), len(pairs)]
    for start, end in pairwise(edges):
        taken = reading.take(came(*pairs[start:end]))
        new += taken.new.sequences
        archived += taken.archived
    rising = [one for place, one in enumerate(sequences) if one > max([cursor, *sequences[:place]])]
    assert (new, reading.held, reading.doubt) == (rising, len(rising), None)
    assert archived == [one for one in sequences if one <= cursor]
    assert reading.highest == max([cursor, *sequences])


def facts(reading: Reading, *, more: int = 0, number: int = 0) -> DurableFacts:
    return DurableFacts(reading.held + more, reading.number + number, reading.highest)


def test_the_count_is_right_only_when_all_three_numbers_agree() -> None:
    reading = Reading(10)
    reading.take(came((11, 1), (12, 2)))
    assert Count(reading).judge(facts(reading)) is Verdict.RIGHT
    assert not reading.agrees(facts(reading, more=1))
    assert not reading.agrees(facts(reading, more=-1))
    assert not reading.agrees(facts(reading, number=1))
    assert not reading.agrees(DurableFacts(2, 2, 11))


def test_beside_another_sink_archived_messages_are_taken_and_counted_until_they_are_acked() -> None:
    """After a take-over the durable gives all without an ack again; the other sink may lack those below the cursor."""
    reading = Reading(cursor=10, beside=True)
    taken = reading.take(came((8, 1), (9, 2), (11, 3)))
    assert (taken.new.sequences, taken.archived, reading.held) == ([8, 9, 11], [], 3)
    assert reading.agrees(DurableFacts(num_ack_pending=3, number=3, sequence=11))
    assert not reading.agrees(DurableFacts(num_ack_pending=1, number=3, sequence=11))
    again = reading.take(came((9, 4), (11, 5)))
    assert (again.new.sequences, again.archived) == ([], [9])


def test_the_count_waits_while_acks_are_worked_off_and_doubts_when_nothing_moves() -> None:
    reading = Reading(10)
    reading.take(came((11, 1)))
    count = Count(reading, tries=3)
    for more in range(100, 0, -10):  # far more than three, but it falls
        assert count.judge(facts(reading, more=more)) is Verdict.AGAIN
    assert count.judge(facts(reading, more=10)) is Verdict.AGAIN
    assert count.judge(facts(reading, more=10)) is Verdict.DOUBT
    assert reading.doubt is Doubt.COUNT


def test_a_durable_that_has_counted_less_was_reset_by_another() -> None:
    reading = Reading(10)
    reading.take(came((11, 1), (12, 2)))
    assert Count(reading).judge(facts(reading, number=-1)) is Verdict.DOUBT


def test_a_stream_that_went_back_is_told() -> None:
    last = record_of(members_of([([4, 5], [[0], [0]])]))
    assert went_back(last, 5, last.to_time_ns) == ""
    assert went_back(last, 9, None) == ""
    assert "archived up to 5" in went_back(last, 4, None)
    assert "message 5 was stored at 1 ns" in went_back(last, 9, 1)


@pytest.mark.parametrize(("cursor", "first", "gone"), [(0, 0, 0), (0, 1, 0), (10, 11, 0), (10, 5, 0), (10, 21, 10)])
def test_messages_that_expired_unread_are_counted(cursor: int, first: int, gone: int) -> None:
    assert expired(cursor, first) == gone
