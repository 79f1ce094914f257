"""Several replicas, each looking at the board at its own times: in the end each owns its share."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.sinks.timeseries.ownership import (
    CLAIM_TTL,
    Board,
    Claim,
)
from tests.support.shares import Replica, names

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
