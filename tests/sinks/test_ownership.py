"""Who owns a time-series logger: claims are taken, handed over and lost so that all replicas own about as many."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.decoding.identity import Incarnation
from collector.sinks.timeseries.ownership import (
    CLAIM_TTL,
    Board,
    Claim,
    Decision,
    Shares,
    Tenure,
    claim_id,
    session_id,
    write_number,
)

FREE = Claim(None, 3)
PATIENCE = 2.0


def names(number: int) -> list[str]:
    return [f"claim{index}" for index in range(number)]


def board(claims: dict[str, Claim], **silent: float) -> Board:
    """Everybody who is heard of is a candidate for all."""
    return Board(claims, silent, dict.fromkeys(silent, len(claims)))


def owned_by(owner: str, *claims: str, epoch: int = 4) -> dict[str, Claim]:
    return dict.fromkeys(claims, Claim(owner, epoch))


class Replica:
    """`Shares` of a replica, and what it owns."""

    def __init__(self, me: str = "me", *owning: str, epoch: int = 4, since: float | None = None) -> None:
        self.me, self.owning, self._shares = me, dict.fromkeys(owning, epoch), Shares(me)
        if since is not None:
            self.decide(board(owned_by(me, *owning, epoch=epoch), **{me: 0.0}), since)

    def decide(self, seen: Board, now: float) -> Decision:
        return self._shares.decide(seen, seen.claims.keys() - self.owning, self.owning, now)


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


def test_nothing_is_handed_over_to_one_that_does_not_want_more() -> None:
    assert hands_over({"me": 6, "a": 1}, willing=1) == 0
    assert hands_over({"me": 6, "a": 1}, willing=2) == 2


def test_nothing_is_handed_over_to_one_that_is_silent() -> None:
    mine = Replica("me", *names(4), since=0.0)
    assert mine.decide(board(owned_by("me", *names(4)), me=0.0, gone=CLAIM_TTL), 60.0) == Decision()


# several replicas, each with a look of its own at its own time


class World:
    """Claims in a database, and replicas that look at them in turn and do what they decide."""

    def __init__(self, claims: int) -> None:
        self.now = 0.0
        self.claims = dict.fromkeys(names(claims), Claim(None, 0))
        self.replicas: dict[str, Replica] = {}
        self.seen: dict[str, float] = {}
        self.changes = 0

    def join(self, name: str) -> None:
        self.replicas[name] = Replica(name)

    def crash(self, name: str) -> None:
        del self.replicas[name]

    def leave(self, name: str) -> None:
        for claim in list(self.replicas[name].owning):
            self._give_back(name, claim)
        self.crash(name)
        self.seen.pop(name, None)

    def look(self, name: str) -> Board:
        """Give a sign of life, and return what it sees."""
        self.seen[name] = self.now
        silent = {other: self.now - seen for other, seen in self.seen.items()}
        return Board(dict(self.claims), silent, dict.fromkeys(silent, len(self.claims)))

    def act(self, name: str, board: Board) -> None:
        """Do what it decides by a board that may be old."""
        replica = self.replicas[name]
        decision = replica.decide(board, self.now)
        for claim in decision.lost:
            assert self.claims[claim] != Claim(name, replica.owning[claim])
            del replica.owning[claim]
        for claim in decision.hand_over:
            self._give_back(name, claim)
        for claim in decision.take:
            if self.claims[claim] == board.claims[claim]:  # the one atomic update
                self.claims[claim] = Claim(name, self.claims[claim].epoch + 1)
                replica.owning[claim] = self.claims[claim].epoch
                self.changes += 1

    def turns(self, seconds: int) -> None:
        """Let all look at the same moment, and act one after the other."""
        for _ in range(seconds):
            self.seen |= dict.fromkeys(self.replicas, self.now)
            boards = {name: self.look(name) for name in self.replicas}
            for name, board in boards.items():
                self.act(name, board)
            self.now += 1.0

    def staggered_turns(self, seconds: int) -> None:
        """Let each look and act before the next does."""
        for _ in range(seconds):
            for name in self.replicas:
                self.act(name, self.look(name))
                self.now += 1.0 / len(self.replicas)

    def _give_back(self, name: str, claim: str) -> None:
        epoch = self.replicas[name].owning.pop(claim)
        if self.claims[claim] == Claim(name, epoch):
            self.claims[claim] = Claim(None, epoch)
            self.changes += 1

    @property
    def counts(self) -> list[int]:
        owners = [claim.owner for claim in self.claims.values()]
        return [owners.count(name) for name in self.replicas]

    def assert_even_and_at_rest(self) -> None:
        assert all(claim.owner in self.replicas for claim in self.claims.values())
        assert max(self.counts) - min(self.counts) <= 1
        for name, replica in self.replicas.items():
            assert replica.owning == {c: one.epoch for c, one in self.claims.items() if one.owner == name}
        before = self.changes
        self.turns(60)
        assert self.changes == before, "who owns what goes to and fro"


def test_replicas_that_begin_together_share_at_once() -> None:
    world = World(6)
    for name in "ab":
        world.join(name)
    world.turns(2)
    assert world.counts == [3, 3]
    world.assert_even_and_at_rest()


def test_a_second_replica_gets_half_after_a_while_and_each_claim_moves_at_most_once() -> None:
    world = World(6)
    world.join("a")
    world.turns(int(CLAIM_TTL) + 1)
    world.join("b")
    before = world.changes
    world.turns(3)
    assert world.counts == [3, 3]
    assert world.changes - before == 2 * 3, "given back and taken"
    world.assert_even_and_at_rest()


def test_the_claims_of_one_that_crashed_are_shared_by_the_others_when_it_has_been_silent_long_enough() -> None:
    world = World(9)
    for name in "abc":
        world.join(name)
    world.turns(2)
    world.crash("b")
    world.turns(int(CLAIM_TTL) - 1)
    assert world.counts == [3, 3]
    world.turns(3)
    assert sorted(world.counts) == [4, 5]
    world.assert_even_and_at_rest()


@pytest.mark.parametrize("names", ["abc", "cab", "bca"])
def test_what_is_handed_over_goes_to_the_one_it_is_meant_for_and_not_back(names: str) -> None:
    """Seven among three: whoever gives one away may itself own one more than the others, and looks first."""
    world = World(7)
    for name in names[:2]:
        world.join(name)
    world.turns(int(CLAIM_TTL) + 2)
    world.join(names[2])
    world.turns(3)
    assert sorted(world.counts) == [2, 2, 3]
    world.assert_even_and_at_rest()


def test_the_claims_of_one_that_left_are_taken_at_once() -> None:
    world = World(4)
    for name in "ab":
        world.join(name)
    world.turns(2)
    world.leave("a")
    world.turns(1)
    assert world.counts == [4]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from("abcde")),
        st.tuples(st.just("crash"), st.sampled_from("abcde")),
        st.tuples(st.just("leave"), st.sampled_from("abcde")),
        st.tuples(st.just("look"), st.sampled_from("abcde")),
        st.tuples(st.just("act"), st.sampled_from("abcde")),
        st.tuples(st.sampled_from(["turns", "staggered_turns"]), st.integers(1, 15)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(claims=st.integers(1, 12), steps=STEPS, staggered=st.booleans())
def test_whatever_happened_in_the_end_all_own_about_as_many_and_every_claim_is_owned(
    claims: int, steps: list[tuple[str, str | int]], staggered: bool
) -> None:
    world, old_boards, joined = World(claims), dict[str, Board](), 0
    for step, what in steps:
        if isinstance(what, int):
            getattr(world, step)(what)
        elif step == "join":
            joined += 1
            world.join(f"{what}{joined}")
        else:
            name = next((name for name in world.replicas if name.startswith(what)), None)
            if name is None:
                continue
            if step == "look":
                old_boards[name] = world.look(name)
            elif step == "act" and name in old_boards:
                world.act(name, old_boards[name])  # a board that was read long ago
            elif step in {"crash", "leave"}:
                getattr(world, step)(name)
    world.join("last")
    (world.staggered_turns if staggered else world.turns)(100)
    world.assert_even_and_at_rest()
