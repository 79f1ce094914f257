"""Which deliveries of a time-series logger are suspects, and which wait: rules 6 to 9 of docs/timeseries.md."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import msgspec
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from collector.decoding.codec import Codec
from collector.decoding.identity import Incarnation
from collector.events import Suspicion
from collector.model import Decoded, Delivery
from collector.sinks.timeseries.horizon import Horizon, hashable
from tests.support.fakes import decoded, delivery, entry, reject, together

BELOW, REPUBLISHED = Suspicion.BELOW_HORIZON, Suspicion.REPUBLISHED
AGAIN = b"NATS/1.0\r\nTransfer-Attempt: 2\r\n\r\n"
_copies = count(2)


def copy_of(one: Decoded) -> Decoded:
    """Deliver the same message again."""
    return of(delivery(one.deliveries[0].sequence, delivered=next(_copies)), one)


def published_again(one: Decoded, sequence: int, headers: bytes = AGAIN) -> Decoded:
    """Deliver the same entries under a higher sequence."""
    return of(msgspec.structs.replace(delivery(sequence), raw_headers=headers), one)


def of(again: Delivery, one: Decoded) -> Decoded:
    entries = [msgspec.structs.replace(entry, delivery=again) for entry in one.entries]
    return Decoded([again], entries, one.rejects, one.size)


def own(sequence: int, *identities: Any) -> Decoded:
    """Make a message with entries under these identities of the publisher's."""
    by = delivery(sequence)
    entries = [entry(by, position) for position in range(len(identities))]
    named = [
        msgspec.structs.replace(one, document={"_id": identity}, own_id=True)
        for one, identity in zip(entries, identities, strict=True)
    ]
    return Decoded([by], named, [], by.size)


def settle(horizon: Horizon, *several: Decoded) -> None:
    for one in several:
        horizon.settled(one.deliveries, one.entries)


def suspicions(horizon: Horizon, *several: Decoded) -> list[Suspicion | None]:
    return [horizon.suspects.get(one.deliveries[0].reply) for one in several]


# the horizon


def test_what_is_not_above_the_mark_is_a_suspect_and_what_is_above_is_not() -> None:
    horizon = Horizon(100)
    several = [decoded(99), decoded(100), decoded(101)]
    assert [horizon.admit(one) for one in several] == [True, True, True]
    assert suspicions(horizon, *several) == [BELOW, BELOW, None]


def test_the_horizon_goes_up_with_what_is_received_and_never_falls() -> None:
    horizon = Horizon(0)
    for sequence, highest in ((5, 5), (3, 5), (6, 6), (6, 6), (1, 6)):
        horizon.admit(decoded(sequence))
        assert horizon.highest == highest


def test_a_message_that_is_delivered_again_after_it_was_settled_is_a_suspect_though_it_is_called_the_first() -> None:
    horizon, one = Horizon(0), decoded(1)
    assert horizon.admit(one)
    settle(horizon, one)
    assert suspicions(horizon, one) == [None]
    assert horizon.admit(one), "nats-server was killed, and forgot that it had delivered it"
    assert suspicions(horizon, one) == [BELOW]


def test_a_message_that_is_late_is_a_suspect_although_it_is_new() -> None:
    horizon = Horizon(0)
    first, late = decoded(7), decoded(6)
    assert (horizon.admit(first), horizon.admit(late)) == (True, True)
    assert suspicions(horizon, first, late) == [None, BELOW]


@given(mark=st.integers(0, 30), sequences=st.lists(st.integers(1, 40), max_size=60))
def test_nothing_is_unsuspected_but_what_is_above_all_that_was_received_and_marked(
    mark: int, sequences: list[int]
) -> None:
    horizon, highest = Horizon(mark), mark
    for sequence in sequences:
        one = decoded(sequence)
        assert horizon.admit(one)
        assert suspicions(horizon, one) == [BELOW if sequence <= highest else None]
        highest = max(highest, sequence)
        settle(horizon, one)
    assert horizon.suspects == {}


# published again


def test_what_its_publisher_says_it_sent_before_is_a_suspect_above_the_horizon_too() -> None:
    horizon, one = Horizon(0), published_again(decoded(1), 9)
    assert horizon.admit(one)
    assert suspicions(horizon, one) == [REPUBLISHED]


@pytest.mark.parametrize(
    ("header", "suspect"),
    [
        (b"Transfer-Attempt: 1", False),
        (b"Transfer-Attempt: 2", True),
        (b"transfer-attempt:3", True),
        (b"TRANSFER-ATTEMPT: 99", True),
        (b"Transfer-Attempt: soon", False),
        (b"Transfer-Attempt: 0", False),
        (b"Transfer-Attempt: -2", False),
        (b"Nats-Msg-Id: transfer-attempt", False),
    ],
    ids=repr,
)
def test_the_header_says_so_from_the_second_attempt_on(header: bytes, suspect: bool) -> None:
    horizon = Horizon(0)
    one = published_again(decoded(1), 9, b"NATS/1.0\r\n" + header + b"\r\n\r\n")
    horizon.admit(one)
    assert suspicions(horizon, one) == [REPUBLISHED if suspect else None]


def test_below_the_horizon_comes_first_of_two_reasons() -> None:
    horizon, one = Horizon(9), published_again(decoded(1), 9)
    horizon.admit(one)
    assert suspicions(horizon, one) == [BELOW]


# in hand


def test_a_copy_by_sequence_waits_and_is_released_as_a_suspect_when_the_first_is_settled() -> None:
    horizon, first = Horizon(0), decoded(1)
    again = copy_of(first)
    assert (horizon.admit(first), horizon.admit(again)) == (True, False)
    assert horizon.released() == []
    assert suspicions(horizon, first, again) == [None, None]
    settle(horizon, first)
    assert horizon.released() == [again]
    assert suspicions(horizon, again) == [BELOW]
    assert horizon.released() == [], "it is in hand now"


def test_a_copy_by_identity_waits_also_for_the_first_that_comes_late() -> None:
    horizon = Horizon(0)
    first = decoded(1)
    second = published_again(first, 5)
    assert (horizon.admit(second), horizon.admit(first)) == (True, False)
    settle(horizon, second)
    assert horizon.released() == [first]
    assert suspicions(horizon, first) == [BELOW]


def test_a_copy_by_identity_without_any_other_sign_is_released_as_a_suspect_too() -> None:
    horizon = Horizon(0)
    first, second = own(1, "x"), own(2, "x")
    assert (horizon.admit(first), horizon.admit(second)) == (True, False)
    settle(horizon, first)
    assert horizon.released() == [second]
    assert suspicions(horizon, second) == [REPUBLISHED]


def test_a_bundle_waits_for_the_identity_of_a_single_entry_in_it() -> None:
    horizon = Horizon(0)
    lone, bundle = own(1, "b"), own(2, "a", "b", "c")
    assert (horizon.admit(lone), horizon.admit(bundle)) == (True, False)
    assert horizon.admit(own(3, "a")), "what waits is not in hand: it may not make others wait"
    settle(horizon, lone)
    assert horizon.released() == [], "for a is in hand"


def test_a_copy_of_what_could_not_be_opened_waits_by_its_sequence() -> None:
    horizon, bad = Horizon(0), delivery(1)
    first = Decoded([bad], [], [reject(bad)], 1)
    assert (horizon.admit(first), horizon.admit(copy_of(first))) == (True, False)
    settle(horizon, first)
    assert len(horizon.released()) == 1


def test_of_several_copies_one_is_released_at_a_time_in_the_order_they_came() -> None:
    horizon, first = Horizon(0), decoded(1)
    copies = [copy_of(first) for _ in range(3)]
    assert [horizon.admit(one) for one in (first, *copies)] == [True, False, False, False]
    before = first
    for one in copies:
        settle(horizon, before)
        assert horizon.released() == [one]
        assert horizon.released() == []
        before = one


def test_one_identity_twice_in_a_message_makes_it_a_suspect() -> None:
    horizon = Horizon(0)
    twice, once = own(1, "a", "b", "a"), own(2, "c", "d")
    assert (horizon.admit(twice), horizon.admit(once)) == (True, True)
    assert suspicions(horizon, twice, once) == [REPUBLISHED, None]


def test_what_is_settled_is_forgotten() -> None:
    horizon = Horizon(0)
    several = [decoded(1), published_again(decoded(2), 2), own(3, "a", "a"), own(4, {"a": [1]})]
    for one in several:
        assert horizon.admit(one)
    settle(horizon, *several)
    assert horizon.suspects == {}
    assert horizon.admit(own(5, "a"))
    assert horizon.admit(own(6, {"a": [1]}))


# deliveries that were opened together


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 30), st.sampled_from([None, "a", "b"]), st.sampled_from([b"", AGAIN]))),
        max_size=5,
    ),
    st.integers(0, 10),
)
def test_what_was_opened_together_is_judged_as_each_would_be_alone(
    runs: list[list[tuple[int, str | None, bytes]]], mark: int
) -> None:
    alone, all_at_once = Horizon(mark), Horizon(mark)
    number = 0
    for run in runs:
        several = []
        for sequence, identity, headers in run:
            number += 1
            one = decoded(sequence) if identity is None else own(sequence, identity)
            several.append(of(msgspec.structs.replace(delivery(sequence, delivered=number), raw_headers=headers), one))
        admitted = [one.deliveries[0] for one in several if alone.admit(one)]
        found = all_at_once.admitted(together(*several)) if several else []
        assert [delivery for one in found for delivery in one.deliveries] == admitted
        assert (all_at_once.highest, all_at_once.suspects) == (alone.highest, alone.suspects)
        assert (all_at_once._sequences, all_at_once._identities) == (alone._sequences, alone._identities)
        assert len(all_at_once._waiting) == len(alone._waiting)


def test_what_is_new_and_was_opened_together_stays_together() -> None:
    run = together(*[decoded(sequence) for sequence in (3, 4, 6)])
    assert Horizon(2).admitted(run) == [run]
    assert len(Horizon(3).admitted(run)) == 3


# identities that publishers choose


@pytest.mark.parametrize(
    "identity",
    [{"host": "a", "n": [1, {"x": 2}]}, [1, 2], "text", b"raw", 7, 2.5, None, True, math.nan, {"a": math.nan}],
    ids=repr,
)
def test_a_copy_under_any_identity_of_the_publishers_waits(identity: Any) -> None:
    wire = msgspec.msgpack.encode(identity)
    first, second = own(1, msgspec.msgpack.decode(wire)), own(2, msgspec.msgpack.decode(wire))
    horizon = Horizon(0)
    assert (horizon.admit(first), horizon.admit(second)) == (True, False)


def test_identities_that_are_different_do_not_wait_for_each_other() -> None:
    horizon = Horizon(0)
    identities = [{"a": 1}, {"a": 2}, [1], [2], "1", 1, 2, b"1", None, ObjectId(), ObjectId()]
    for sequence, identity in enumerate(identities, 1):
        assert horizon.admit(own(sequence, identity)), identity


@pytest.mark.parametrize("depth", [100, 300, 900, 960, 990])
def test_an_identity_of_any_depth_that_can_be_opened_can_be_compared(depth: int) -> None:
    """A publisher must not be able to crash a pipeline."""
    nested = b"\x81\xa1a" * depth + b"\x01"
    message = msgspec.structs.replace(delivery(1), body=b"\x81\xa4data\x81\xa3_id" + nested)
    found = Codec(Incarnation("s", "now")).decode(message)
    horizon = Horizon(0)
    assert horizon.admit(found)
    settle(horizon, found)


def test_maps_are_compared_by_what_they_hold() -> None:
    assert hashable({"a": [1]}) == hashable({"a": [1]})
    assert hashable({"a": [1]}) != hashable({"a": [2]})


# all together: never two copies in hand, never an unsuspected one of what was admitted before


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("abc"), st.booleans()), max_size=60))
def test_no_two_copies_are_ever_in_hand_and_what_was_there_before_is_always_a_suspect(
    steps: list[tuple[int, str, bool]],
) -> None:
    horizon, in_hand, waiting = Horizon(0), list[Decoded](), 0
    seen: set[int] = set()

    def enter(one: Decoded) -> None:
        assert one.deliveries[0].sequence not in {other.deliveries[0].sequence for other in in_hand}
        assert one.entries[0].document["_id"] not in {other.entries[0].document["_id"] for other in in_hand}
        assert one.deliveries[0].reply in horizon.suspects or one.deliveries[0].sequence not in seen
        seen.add(one.deliveries[0].sequence)
        in_hand.append(one)

    for number, (sequence, identity, settling) in enumerate(steps):
        one = own(sequence, identity)
        one = of(delivery(sequence, delivered=number + 1), one)
        if horizon.admit(one):
            enter(one)
        else:
            waiting += 1
        if settling and in_hand:
            settle(horizon, in_hand.pop(number % len(in_hand)))
            for released in horizon.released():
                waiting -= 1
                enter(released)
    while in_hand:
        settle(horizon, in_hand.pop())
        for released in horizon.released():
            waiting -= 1
            enter(released)
    assert waiting == 0, "every copy gets its turn"
