"""Who owns a time-series logger: claims are taken, handed over and lost so that all replicas own about as many."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.decoding.identity import Incarnation
from collector.sinks.timeseries.ownership import (
    CLAIM_TTL,
    Claim,
    Decision,
    Shares,
    Tenure,
    claim_id,
    session_id,
    write_number,
)
from tests.support.shares import FREE, PATIENCE, Replica, board, names, owned_by

# ids and numbers


def test_every_replica_knows_the_sessions_of_a_claim_and_no_two_share_one() -> None:
    lives = [Incarnation("beta:logs:a", "2024"), Incarnation("beta:logs:a", "2025"), Incarnation("beta:logs:b", "2024")]
    ids = [session_id(claim_id(life), slot) for life in lives for slot in range(64)]
    assert len(set(ids)) == len(ids)
    assert session_id("beta:logs:a 2024", 3) == ids[3]


def test_the_session_of_a_slot_is_the_one_that_earlier_versions_wrote_through() -> None:
    # A change here lets an old owner go on writing over an upgrade.
    assert str(session_id("beta:logs:a 2024", 3)) == "ac818201-077a-526a-8c68-e55cc30b850b"


@given(st.integers(1, 2**22), st.integers(0, 2**40 - 1), st.integers(0, 2**40 - 1))
def test_all_numbers_of_a_later_epoch_are_higher_and_fit_into_63_bits(epoch: int, count: int, other: int) -> None:
    assert write_number(epoch, count) < write_number(epoch + 1, other) < 2**63
    assert (write_number(epoch, count) < write_number(epoch, other)) == (count < other)


# the mark


def test_the_mark_is_raised_ahead_of_what_is_inserted_and_not_for_each() -> None:
    tenure = Tenure("c", 1, 4, 100)
    assert tenure.mark_needed(100) is None
    needed = tenure.mark_needed(101)
    assert needed is not None
    assert needed > 10_000
    assert tenure.mark_needed(101) == needed, "it is not durable before it is said to be"
    tenure.raised(needed)
    assert tenure.mark_needed(needed) is None
    assert tenure.mark_needed(needed + 1) is not None


def test_the_mark_never_falls() -> None:
    tenure = Tenure("c", 1, 4, 100)
    tenure.raised(90)
    assert tenure.mark == 100


# taking


def test_a_lone_replica_takes_all_that_is_free_at_once() -> None:
    assert Replica().decide(board(dict.fromkeys(names(5), FREE)), 0.0) == Decision(take=names(5))


@pytest.mark.parametrize(("claims", "others", "share"), [(6, 1, 3), (7, 1, 4), (6, 2, 2), (1, 3, 1), (5, 7, 1)])
def test_of_what_is_free_it_takes_an_equal_share_at_once(claims: int, others: int, share: int) -> None:
    seen = board(dict.fromkeys(names(claims), FREE), me=0.0, **{f"other{number}": 0.5 for number in range(others)})
    assert len(Replica().decide(seen, 0.0).take) == share


def test_what_nobody_else_has_taken_after_a_while_it_takes_too() -> None:
    seen = board(dict.fromkeys(names(4), FREE), me=0.0, other=0.5)
    replica = Replica()
    assert len(replica.decide(seen, 0.0).take) == 2
    assert len(replica.decide(seen, PATIENCE - 0.1).take) == 2
    assert len(replica.decide(seen, PATIENCE).take) == 4


def test_patience_begins_anew_when_a_claim_was_taken_meanwhile() -> None:
    free, taken = board({"a": FREE}, me=0.0, other=0.0), board(owned_by("other", "a"), me=0.0, other=0.0)
    mine = Replica("me", "mine")  # who owns one already leaves it to the other
    free, taken = (replace(seen, claims={**seen.claims, **owned_by("me", "mine")}) for seen in (free, taken))
    assert mine.decide(free, 0.0).take == []
    assert mine.decide(taken, 1.0).take == []
    assert mine.decide(free, 2.5).take == []
    assert mine.decide(free, 2.5 + PATIENCE).take == ["a"]


@pytest.mark.parametrize(("silent", "free"), [(CLAIM_TTL - 0.1, False), (CLAIM_TTL, True), (None, True)])
def test_the_claims_of_a_replica_that_is_silent_or_has_left_are_free(silent: float | None, free: bool) -> None:
    """And nothing is left to it."""
    heard = {"me": 0.0} | ({"other": silent} if silent is not None else {})
    decision = Replica().decide(board(owned_by("other", *names(4)), **heard), 0.0)
    assert decision == Decision(take=names(4) if free else [])


def test_a_replica_that_is_not_heard_of_yet_counts_itself() -> None:
    seen = board(dict.fromkeys(names(4), FREE), other=0.0)
    assert len(Replica().decide(seen, 0.0).take) == 2


def test_what_it_owns_by_the_board_and_not_itself_is_free_for_it() -> None:
    """A take of which only the answer was lost, or a tenure that it could not give back."""
    assert Replica().decide(board(owned_by("me", "a"), me=0.0), 0.0).take == ["a"]


def test_it_takes_nothing_that_it_is_no_candidate_for() -> None:
    assert Shares("me").decide(board({"a": FREE}, me=0.0), [], {}, 0.0) == Decision()


# lost


@pytest.mark.parametrize(
    ("claim", "lost"),
    [
        (Claim("me", 4), False),
        (Claim("other", 5), True),
        (Claim("me", 5), True),
        (Claim(None, 5), True),
        (Claim("other", 4), True),
        (Claim(None, 4), True),
        (Claim("other", 3), False),
        (Claim(None, 3), False),
    ],
    ids=repr,
)
def test_a_claim_is_lost_by_its_epoch_and_a_board_from_before_it_was_taken_says_nothing(
    claim: Claim, lost: bool
) -> None:
    decision = Replica("me", "a").decide(board({"a": claim}, me=0.0, other=0.0), 0.0)
    assert decision == Decision(lost=["a"] if lost else [])


# handing over


def hands_over(counts: dict[str, int], *, since: float = CLAIM_TTL, willing: int | None = None) -> int:
    """Return how many `me` hands over when the replicas own so many, and it has owned its own for `since` seconds."""
    claims = {f"{owner}{number}": Claim(owner, 4) for owner, owned in counts.items() for number in range(owned)}
    seen = board(claims, **dict.fromkeys(counts, 0.0))
    if willing is not None:
        seen = replace(seen, willing=dict.fromkeys(counts, willing))
    mine = Replica("me", *(claim for claim, one in claims.items() if one.owner == "me"), since=0.0)
    decision = mine.decide(seen, since)
    assert (decision.take, decision.lost) == ([], [])
    assert set(decision.hand_over) <= mine.owning.keys()
    return len(decision.hand_over)


@pytest.mark.parametrize(
    ("counts", "over"),
    [
        ({"me": 6, "a": 0}, 3),
        ({"me": 7, "a": 0}, 3),
        ({"me": 2, "a": 0}, 1),
        ({"me": 1, "a": 0}, 0),
        ({"me": 4, "a": 3}, 0),
        ({"me": 5, "a": 3, "b": 1}, 2),
        ({"me": 3, "a": 5, "b": 0}, 0),
        ({"me": 0, "a": 0}, 0),
    ],
    ids=repr,
)
def test_the_fullest_hands_over_half_of_the_difference_to_the_emptiest(counts: dict[str, int], over: int) -> None:
    assert hands_over(counts) == over


def test_of_two_that_own_the_most_only_one_hands_over() -> None:
    assert hands_over({"me": 4, "a": 4, "b": 0}) == 2
    assert hands_over({"me": 4, "z": 4, "b": 0}) == 0


def test_what_was_taken_a_moment_ago_is_kept_for_a_while() -> None:
    assert hands_over({"me": 6, "a": 0}, since=CLAIM_TTL - 0.1) == 0


def test_what_was_handed_over_and_not_taken_yet_is_no_reason_to_hand_over_more() -> None:
    mine = Replica("me", *names(6), since=0.0)
    seen = board(owned_by("me", *names(6)), me=0.0, other=0.0)
    over = mine.decide(seen, CLAIM_TTL).hand_over
    assert mine.decide(seen, CLAIM_TTL + 1).hand_over == over == names(3), "they still drain"
    for claim in over:
        del mine.owning[claim]
    unseen = board(owned_by("me", *mine.owning), me=0.0, other=0.0)
    assert mine.decide(unseen, CLAIM_TTL + 2).hand_over == [], "it is no candidate for them again yet"
    freed = board({**owned_by("me", *mine.owning), **dict.fromkeys(over, Claim(None, 4))}, me=0.0, other=0.0)
    assert mine.decide(freed, CLAIM_TTL + 3) == Decision()


def test_a_claim_that_no_other_replica_can_take_is_not_handed_over() -> None:
    seen = board({**owned_by("me", *names(6)), "free": Claim("other", 4)}, me=0.0, other=0.0)
    mine = Replica("me", *names(6), since=0.0)
    staying = names(6)[:5]
    assert mine.decide(seen, CLAIM_TTL, staying).hand_over == names(6)[5:]


def test_nothing_is_handed_over_to_one_that_does_not_want_more() -> None:
    assert hands_over({"me": 6, "a": 1}, willing=1) == 0
    assert hands_over({"me": 6, "a": 1}, willing=2) == 2


def test_nothing_is_handed_over_to_one_that_is_silent() -> None:
    mine = Replica("me", *names(4), since=0.0)
    assert mine.decide(board(owned_by("me", *names(4)), me=0.0, gone=CLAIM_TTL), 60.0) == Decision()
