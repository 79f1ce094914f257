from __future__ import annotations

from itertools import product

from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from collector.decoding.identity import Incarnation

FIRST_LIFE = Incarnation("beta:logs:system", "2024-05-06T07:08:09.123456789Z")
SECOND_LIFE = Incarnation("beta:logs:system", "2024-05-06T07:08:09.12345679Z")
OTHER_STREAM = Incarnation("beta:logs:orders", "2024-05-06T07:08:09.123456789Z")


def test_the_same_delivery_has_the_same_identity_in_every_replica() -> None:
    replica = Incarnation(FIRST_LIFE.stream, FIRST_LIFE.created)
    assert replica.identity(7) == FIRST_LIFE.identity(7)
    assert replica.identity(7, 3) == FIRST_LIFE.identity(7, 3)


def test_the_identity_is_the_one_that_earlier_versions_derived() -> None:
    # A change here makes every message that is redelivered over an upgrade a second document.
    assert FIRST_LIFE.identity(7, 3) == ObjectId("92210543fa00000000070003")


def test_neighbours_in_the_stream_are_neighbours_in_the_collection() -> None:
    places = list(product(range(1, 300), range(3)))
    identities = [FIRST_LIFE.identity(sequence, position) for sequence, position in places]
    assert identities == sorted(identities)
    assert len(set(identities)) == len(places)


def test_a_stream_made_again_and_another_stream_never_share_an_identity() -> None:
    lives = (FIRST_LIFE, SECOND_LIFE, OTHER_STREAM)
    assert len({life.identity(sequence) for life in lives for sequence in range(1, 100)}) == 3 * 99


def test_what_exceeds_40_bits_of_sequence_or_16_of_position_stays_unique() -> None:
    sequences = [1, 2, 2**40 - 1, 2**40, 2**40 + 1, 2**40 + 2, 2**41, 2**41 + 1, 2**64 - 1]
    positions = [0, 1, 2**16 - 1, 2**16, 2**16 + 1, 2**17, 2**17 + 1]
    places = list(product(sequences, positions))
    assert len({FIRST_LIFE.identity(sequence, position) for sequence, position in places}) == len(places)


@given(st.tuples(st.integers(1, 2**64), st.integers(0, 2**20)), st.tuples(st.integers(1, 2**64), st.integers(0, 2**20)))
def test_two_places_have_two_identities(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (FIRST_LIFE.identity(*one) == FIRST_LIFE.identity(*other)) == (one == other)
