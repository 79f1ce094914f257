"""The bytes of a replica, shared by its loggers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.budget import SMALLEST_ASK, Account, Budget

KIB = 1024
LIMIT = 1024 * KIB


def nobody() -> None:
    """Wait for nothing."""


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[int, str, float]]:
    """Draw what accounts do in turn: take a part of the room that they are given, or give a part back."""
    one = st.tuples(st.integers(0, 7), st.sampled_from(["flow", "trickle", "free"]), st.floats(0, 1))
    return draw(st.lists(one, max_size=80))


def play(accounts: list[Account], turns: list[tuple[int, str, float]], budget: Budget, ceiling: float) -> None:
    for index, what, part in turns:
        account = accounts[index % len(accounts)]
        if what == "free":
            account.use(int(account.used * part))
        else:
            account.use(account.used + int(account.room(flowing=what == "flow") * part))
        assert budget.used == sum(one.used for one in accounts)
        assert budget.used <= ceiling


@given(count=st.integers(1, 8), turns=steps())
def test_the_loggers_of_a_replica_never_use_more_than_its_limit(
    count: int, turns: list[tuple[int, str, float]]
) -> None:
    budget = Budget(LIMIT)
    play([budget.open(nobody) for _ in range(count)], turns, budget, LIMIT)


@given(before=steps(), after=steps())
def test_new_loggers_may_use_their_promised_parts_while_what_was_lent_before_comes_back(
    before: list[tuple[int, str, float]], after: list[tuple[int, str, float]]
) -> None:
    budget = Budget(LIMIT)
    accounts = [budget.open(nobody)]
    play(accounts, before, budget, LIMIT)
    accounts += [budget.open(nobody) for _ in range(7)]
    play(accounts, after, budget, LIMIT * 1.5)


@given(others=st.integers(1, 7), turns=steps())
def test_a_hot_logger_leaves_every_other_its_promised_part(others: int, turns: list[tuple[int, str, float]]) -> None:
    budget = Budget(LIMIT)
    hot = budget.open(nobody)
    rest = [budget.open(nobody) for _ in range(others)]
    play([hot], turns, budget, LIMIT)
    for account in rest:
        assert account.room(flowing=False) >= LIMIT // 2 // (others + 1)


def test_a_logger_alone_may_use_everything() -> None:
    assert Budget(LIMIT).open(nobody).room(flowing=True) == LIMIT


def test_two_hot_loggers_share_what_is_lent() -> None:
    budget = Budget(LIMIT)
    one, other = budget.open(nobody), budget.open(nobody)
    for account in (one, other) * 40:
        account.use(account.used + min(account.room(flowing=True), 16 * KIB))
    assert abs(one.used - other.used) <= 16 * KIB


def test_a_logger_that_nothing_comes_from_gets_its_promised_part_only() -> None:
    budget = Budget(LIMIT)
    idle, _ = budget.open(nobody), budget.open(nobody)
    assert idle.room(flowing=False) == LIMIT // 4


def test_with_very_many_loggers_a_part_is_still_worth_a_request() -> None:
    budget = Budget(LIMIT)
    accounts = [budget.open(nobody) for _ in range(1000)]
    assert accounts[0].room(flowing=False) == SMALLEST_ASK


def test_whoever_was_refused_is_told_when_there_is_room_again() -> None:
    told: list[str] = []
    budget = Budget(LIMIT)
    hot, late = budget.open(lambda: told.append("hot")), budget.open(lambda: told.append("late"))
    hot.use(hot.room(flowing=True))
    assert hot.room(flowing=True) < SMALLEST_ASK
    late.use(late.room(flowing=True))
    assert late.room(flowing=True) < SMALLEST_ASK
    assert told == []
    hot.use(0)
    assert sorted(told) == ["hot", "late"]
    hot.use(1)
    hot.use(0)
    assert len(told) == 2, "nobody was refused since"


def test_a_logger_that_goes_away_gives_everything_back_and_is_told_nothing() -> None:
    told: list[str] = []
    budget = Budget(LIMIT)
    gone, other = budget.open(lambda: told.append("gone")), budget.open(lambda: told.append("other"))
    gone.use(gone.room(flowing=True))
    gone.room(flowing=True)
    other.use(other.room(flowing=True))
    other.room(flowing=True)
    gone.close()
    assert told == ["other"]
    assert budget.used == other.used
    assert other.room(flowing=True) == LIMIT - other.used
