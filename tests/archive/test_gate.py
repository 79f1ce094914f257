"""The gate: no message is acked before both sinks have it, each is acked in the end, and the count is always right."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.gate import Gate

MESSAGES = 40


class History:
    """A work queue, its durable, an archive and another sink: all that can happen between them, in any order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a schedule
        self.stream = set(self.random.sample(range(1, 2 * MESSAGES), MESSAGES))
        self.acked = set[int]()
        self.in_archive = set[int]()
        self.in_sink = set[int]()
        self.at_sink = set[int]()
        """Messages that the other sink works on; a reset does not end that."""
        self.cursor = 0
        self.reset()

    def reset(self) -> None:
        """Begin again: all that is not acked is delivered again, in order."""
        self.gate = Gate(self.cursor)
        self.delivered: list[int] = []

    def deliver(self) -> None:
        last = self.delivered[-1] if self.delivered else 0
        ahead = sorted(one for one in self.stream - self.acked if one > last)
        came = ahead[: self.random.randint(1, 9)]
        self.delivered += came
        self.gate.take(came)
        self.at_sink.update(came)

    def archive(self) -> None:
        """Store a cut: all that was delivered up to a point."""
        ahead = [one for one in self.delivered if one > self.cursor]
        if ahead:
            self.cursor = self.random.choice(ahead)
            self.in_archive.update(one for one in ahead if one <= self.cursor)
            self.ack(self.gate.archived(self.cursor))

    def write(self) -> None:
        """Store some messages in the other sink, in any order; those of before a reset too."""
        some = self.random.sample(sorted(self.at_sink), self.random.randint(0, len(self.at_sink)))
        self.at_sink.difference_update(some)
        self.in_sink.update(some)
        self.ack(self.gate.written(some))

    def forget(self) -> None:
        """Let nats-server forget some acks of messages of this reset, and deliver them again."""
        gone = [one for one in self.delivered if one in self.acked]
        some = set(self.random.sample(gone, self.random.randint(0, len(gone))))
        self.acked -= some
        again = sorted(some | set(self.random.sample(self.delivered, len(self.delivered) // 2)))
        self.ack(self.gate.again(again))

    def ack(self, sequences: list[int]) -> None:
        for sequence in sequences:
            assert sequence in self.in_archive, "acked before the archive has it"
            assert sequence in self.in_sink, "acked before the other sink has it"
            self.acked.add(sequence)

    def check(self) -> None:
        assert self.gate.unacked == len([one for one in self.delivered if one not in self.acked])
        assert set(self.gate.missing) <= set(self.delivered) - self.acked, "the other sink would get it again"
        assert set(self.gate.missing) >= set(self.delivered) - self.in_sink, "the other sink would never get it"


@given(st.integers(0, 2**64), st.lists(st.sampled_from("ddaawwwfr"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_each_message_is_acked_once_both_have_it_whatever_happens(seed: int, happening: str) -> None:
    history = History(seed)
    does = {
        "d": history.deliver,
        "a": history.archive,
        "w": history.write,
        "f": history.forget,
        "r": history.reset,
    }
    for one in happening:
        does[one]()
        history.check()
    history.reset()  # the end: everything is delivered, archived and written
    while [one for one in history.stream - history.acked if one not in history.delivered]:
        history.deliver()
    while history.stream - history.acked:
        history.archive()
        history.write()
        history.check()
    assert history.gate.unacked == 0


def test_a_message_that_is_archived_but_not_written_is_still_counted() -> None:
    gate = Gate(0)
    gate.take([1, 2, 3])
    assert gate.archived(3) == []
    assert gate.unacked == 3
    assert gate.written([2]) == [2]
    assert gate.unacked == 2


def test_after_a_take_over_the_messages_below_the_cursor_wait_for_the_other_sink_alone() -> None:
    gate = Gate(10)
    gate.take([4, 9, 11])
    assert gate.written([9, 11]) == [9]
    assert gate.archived(11) == [11]
    assert gate.unacked == 1


def test_a_million_messages_take_ten_megabytes() -> None:
    gate = Gate(0)
    gate.take(range(1, 1_000_001))
    assert gate._open.buffer_info()[1] * gate._open.itemsize + len(gate._written) < 10_000_000
