"""Deliveries in hand of which the receipts alone are kept: counted, answered and given back as all others."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.flow.in_hand import MESSAGE, RECEIPT, InHand
from collector.flow.receipts import Slim
from collector.flow.settlement import ACK
from tests.support.fakes import STREAM, decoded, delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.model import Delivery

MANY = 100_000


def reply(stream: str, *numbers: int, before: str = "", behind: str = "") -> str:
    return f"$JS.ACK.{before}{stream}.{stream}.{'.'.join(map(str, numbers))}{behind}"


@pytest.mark.parametrize(("before", "behind"), [("", ""), ("hub.AHASH.", ""), ("hub.AHASH.", ".random")])
def test_a_receipt_says_of_a_delivery_what_the_delivery_said(before: str, behind: str) -> None:
    one = Slim(reply(STREAM, 3, 17, 40, 1_714_979_289_123_456_789, 5, before=before, behind=behind))
    assert (one.sequence, one.num_delivered, one.published_ns) == (17, 3, 1_714_979_289_123_456_789)


def test_of_a_delivery_whose_sink_answers_later_the_receipt_stays_and_its_bytes_are_given_back() -> None:
    in_hand, one, other = InHand(), decoded(1, body=b"x" * 1000), decoded(2, body=b"y" * 10)
    in_hand.take([*one.deliveries, *other.deliveries])
    in_hand.slim(one.deliveries)
    in_hand.slim(one.deliveries)
    assert (len(in_hand), in_hand.whole, in_hand.receipts) == (2, 1, 1)
    assert (in_hand.bytes, in_hand.memory_bytes) == (10 + MESSAGE, 10 + MESSAGE + RECEIPT)
    assert [one.sequence for one in in_hand.all()] == [1, 2]
    assert in_hand.replies() == [delivery(1).reply, delivery(2).reply]
    in_hand.take(one.deliveries)  # handed over once more under the same reply subject
    assert (len(in_hand), in_hand.receipts) == (2, 1)


STEPS: dict[str, Callable[[InHand, Delivery], None]] = {
    "take": lambda in_hand, one: in_hand.take([one]),
    "take twice": lambda in_hand, one: in_hand.take([one, one]),
    "slim": lambda in_hand, one: in_hand.slim([one]),
    "slim twice": lambda in_hand, one: in_hand.slim([one, one]),
    "release": lambda in_hand, one: in_hand.release([one]),
    "release twice": lambda in_hand, one: in_hand.release([one, one]),
    "release the receipt": lambda in_hand, one: in_hand.release([Slim(one.reply)]),
    "disown": lambda in_hand, _: in_hand.disown(),
    "drop": lambda in_hand, _: in_hand.drop(),
}


@given(st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(1, 5))))
def test_receipts_and_deliveries_add_up_whatever_happens(steps: list[tuple[str, int]]) -> None:
    """A disowned hand-over may not be answered, nor any copy of it, until the last of them is settled."""
    in_hand, whole, slim, ours = InHand(), set[int](), set[int](), set[int]()
    flying = Counter[int]()
    for step, sequence in steps:
        STEPS[step](in_hand, delivery(sequence, b"x" * sequence))
        match step:
            case "take" | "take twice":
                whole |= {sequence} - slim
                flying[sequence] += 1 + (step == "take twice")
                ours.add(sequence)
            case "slim" | "slim twice":
                slim |= {sequence} & whole
                whole -= {sequence}
            case "disown":
                ours -= set(flying)
            case "drop":
                whole, slim, ours = set(), set(), set(range(6))
                flying.clear()
            case _:
                flying = +(flying - Counter({sequence: 1 + (step == "release twice")}))
                ours |= {sequence} - set(flying)
                whole -= {sequence}
                slim -= {sequence}
        assert (in_hand.whole, in_hand.receipts, len(in_hand)) == (len(whole), len(slim), len(whole) + len(slim))
        assert in_hand.bytes == sum(whole) + len(whole) * MESSAGE
        assert {one.sequence for one in in_hand.all()} == whole | slim
        for held in flying:
            answers = [(delivery(held).reply, ACK)]
            assert in_hand.owned(answers) == (answers if held in ours else [])


def take_and_slim(in_hand: InHand, start: int) -> None:
    several = [delivery(start + number, b"x" * 500) for number in range(1000)]
    in_hand.take(several)
    in_hand.slim(several)


def test_receipts_take_no_more_memory_than_is_counted_for_them() -> None:
    in_hand = InHand()
    tracemalloc.start()
    try:
        for start in range(0, MANY, 1000):
            take_and_slim(in_hand, start)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (in_hand.receipts, in_hand.bytes) == (MANY, 0)
    assert taken < in_hand.memory_bytes == MANY * RECEIPT
