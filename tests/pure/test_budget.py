"""The bytes of a replica, shared by its loggers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.budget import SMALLEST_ASK, Account, Budget, Pool

KIB = 1024
LIMIT = 1024 * KIB


def nobody() -> None:
    """Wait for nothing."""


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[int, str, float]]:
    """Draw what accounts do in turn: take a part of the room that they are given, or give a part back."""
    one = st.tuples(st.integers(0, 7), st.sampled_from(["flow", "trickle", "free"]), st.floats(0, 1))
    return draw(st.lists(one, max_size=80))


def play(accounts: list[Account], turns: list[tuple[int, str, float]], pool: Pool, ceiling: float) -> None:
    for index, what, part in turns:
        account = accounts[index % len(accounts)]
        if what == "free":
            account.use(int(account.used * part))
        else:
            account.use(account.used + int(account.room(flowing=what == "flow") * part))
        assert pool.used == sum(one.used for one in accounts)
        assert pool.used <= ceiling


@given(count=st.integers(1, 8), turns=steps())
def test_the_loggers_of_a_replica_never_use_more_than_its_limit(
    count: int, turns: list[tuple[int, str, float]]
) -> None:
    pool = Pool(LIMIT)
    play([pool.open(nobody) for _ in range(count)], turns, pool, LIMIT)


@given(before=steps(), after=steps())
def test_new_loggers_may_use_their_promised_parts_while_what_was_lent_before_comes_back(
    before: list[tuple[int, str, float]], after: list[tuple[int, str, float]]
) -> None:
    pool = Pool(LIMIT)
    accounts = [pool.open(nobody)]
    play(accounts, before, pool, LIMIT)
    accounts += [pool.open(nobody) for _ in range(7)]
    play(accounts, after, pool, LIMIT * 1.5)


@given(others=st.integers(1, 7), turns=steps())
def test_a_hot_logger_leaves_every_other_its_promised_part(others: int, turns: list[tuple[int, str, float]]) -> None:
    pool = Pool(LIMIT)
    hot = pool.open(nobody)
    rest = [pool.open(nobody) for _ in range(others)]
    play([hot], turns, pool, LIMIT)
    for account in rest:
        assert account.room(flowing=False) >= LIMIT // 2 // (others + 1)


def test_a_logger_alone_may_use_everything() -> None:
    assert Pool(LIMIT).open(nobody).room(flowing=True) == LIMIT


def test_two_hot_loggers_share_what_is_lent() -> None:
    pool = Pool(LIMIT)
    one, other = pool.open(nobody), pool.open(nobody)
    for account in (one, other) * 40:
        account.use(account.used + min(account.room(flowing=True), 16 * KIB))
    assert abs(one.used - other.used) <= 16 * KIB


def test_a_logger_that_nothing_comes_from_gets_its_promised_part_only() -> None:
    pool = Pool(LIMIT)
    idle, _ = pool.open(nobody), pool.open(nobody)
    assert idle.room(flowing=False) == LIMIT // 4


def test_with_very_many_loggers_a_part_is_still_worth_a_request() -> None:
    pool = Pool(LIMIT)
    accounts = [pool.open(nobody) for _ in range(1000)]
    assert accounts[0].room(flowing=False) == SMALLEST_ASK


def test_whoever_was_refused_is_told_when_there_is_room_again() -> None:
    told: list[str] = []
    pool = Pool(LIMIT)
    hot, late = pool.open(lambda: told.append("hot")), pool.open(lambda: told.append("late"))
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
    pool = Pool(LIMIT)
    gone, other = pool.open(lambda: told.append("gone")), pool.open(lambda: told.append("other"))
    gone.use(gone.room(flowing=True))
    gone.room(flowing=True)
    other.use(other.room(flowing=True))
    other.room(flowing=True)
    gone.close()
    assert told == ["other"]
    assert pool.used == other.used
    assert other.room(flowing=True) == LIMIT - other.used


@given(count=st.integers(2, 8), sizes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3 * LIMIT)), max_size=40))
def test_what_is_too_large_for_any_room_is_admitted_alone_and_adds_one_pool_or_one_message(
    count: int, sizes: list[tuple[int, int]]
) -> None:
    pool = Pool(LIMIT)
    accounts = [pool.open(nobody) for _ in range(count)]
    for index, size in sizes:
        account = accounts[index % count]
        if account.admits(size):
            account.use(account.used + size)
        else:
            account.use(0)
        assert pool.excess <= max(LIMIT, *(one.excess for one in accounts))
        assert pool.used <= LIMIT + pool.excess


def test_who_has_a_message_too_large_waits_for_the_other_one_and_is_told() -> None:
    told: list[str] = []
    pool = Pool(LIMIT)
    first, second = pool.open(lambda: told.append("first")), pool.open(lambda: told.append("second"))
    assert first.admits(2 * LIMIT)
    first.use(2 * LIMIT)
    assert not first.admits(1), "not before its own is written"
    assert not second.admits(2 * LIMIT)
    assert second.admits(LIMIT // 4), "its promised part"
    first.use(0)
    assert sorted(told) == ["first", "second"]
    assert second.admits(2 * LIMIT)
    second.use(10)
    assert first.admits(2 * LIMIT), "the other one became a small dead letter"


def test_what_came_cannot_take_the_room_in_which_it_is_opened() -> None:
    budget = Budget(LIMIT)
    accounts = budget.open(nobody)
    accounts.received.use(accounts.received.room(flowing=True))
    assert accounts.received.room(flowing=True) == 0
    assert accounts.received.used + accounts.opened.room(flowing=True) == LIMIT
    accounts.close()
    assert budget.used == 0
    assert not budget.accounts
