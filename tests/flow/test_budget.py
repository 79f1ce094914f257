"""The bytes of a replica, shared by its loggers."""

from __future__ import annotations

from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from collector.flow.budget import Budget
from collector.flow.pool import SMALLEST_ASK, SMALLEST_GUARANTEE, Account, Pool
from tests.support.budgets import KIB, LIMIT, Clock, move, nobody


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
            account.use(account.used + int(account.available(flowing=what == "flow") * part))
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
        assert account.available(flowing=False) >= LIMIT // 2 // (others + 1)


def test_a_logger_alone_may_use_everything() -> None:
    alone = Pool(LIMIT).open(nobody)
    assert alone.available(flowing=True) == LIMIT // 2, "nothing came yet"
    move(alone, LIMIT // 2)
    assert alone.available(flowing=True) == LIMIT


def test_two_hot_loggers_share_what_is_lent() -> None:
    pool = Pool(LIMIT, Clock())
    one, other = pool.open(nobody), pool.open(nobody)
    for account in (one, other):
        move(account, LIMIT // 4)
    for account in (one, other) * 40:
        account.use(account.used + min(account.available(flowing=True), 16 * KIB))
    assert abs(one.used - other.used) <= 16 * KIB
    assert one.used > LIMIT // 4 + 16 * KIB


def test_a_logger_that_nothing_comes_from_gets_its_promised_part_only() -> None:
    pool = Pool(LIMIT, Clock())
    idle, _ = pool.open(nobody), pool.open(nobody)
    move(idle, LIMIT // 4)
    assert idle.available(flowing=False) == LIMIT // 4


def test_a_logger_is_lent_no_more_than_twice_what_came_lately() -> None:
    clock = Clock()
    pool = Pool(LIMIT, clock)
    logger, _ = pool.open(nobody), pool.open(nobody)
    move(logger, 20 * KIB)
    clock.now += 1
    move(logger, 10 * KIB)
    assert logger.available(flowing=True) == LIMIT // 4 + 60 * KIB
    clock.now += 1
    assert logger.available(flowing=True) == LIMIT // 4 + 20 * KIB
    clock.now += 2
    assert logger.available(flowing=True) == LIMIT // 4


def test_among_very_many_loggers_only_those_that_most_comes_from_are_lent_to() -> None:
    pool = Pool(16 * 1024 * KIB, Clock())
    hot, *quiet = [pool.open(nobody) for _ in range(1000)]
    for account in quiet:
        move(account, SMALLEST_GUARANTEE)
    for account in quiet:
        account.use(account.available(flowing=True))
    assert {account.used for account in quiet} == {SMALLEST_GUARANTEE}
    rooms = [hot.available(flowing=True)]
    for _ in range(20):
        move(hot, rooms[-1])
        rooms.append(hot.available(flowing=True))
    assert rooms[0] == SMALLEST_GUARANTEE
    assert rooms[-1] == SMALLEST_GUARANTEE + pool.limit // 2


def test_many_small_loans_do_not_make_a_large_one_small() -> None:
    pool = Pool(LIMIT, Clock())
    hot, *others = [pool.open(nobody) for _ in range(17)]
    move(hot, LIMIT)
    for account in others:
        account.use(pool.guaranteed + KIB)
    assert hot.available(flowing=True) == pool.guaranteed + (LIMIT // 2 - 16 * KIB) // 2


def test_with_very_many_loggers_a_part_is_still_worth_a_request() -> None:
    pool = Pool(LIMIT)
    accounts = [pool.open(nobody) for _ in range(1000)]
    assert accounts[0].available(flowing=False) == SMALLEST_GUARANTEE >= 2 * SMALLEST_ASK


def test_of_many_that_start_together_the_first_is_promised_no_more_than_the_last() -> None:
    budget = Budget(LIMIT)
    with ExitStack() as starting:
        for _ in range(8):
            starting.enter_context(budget.expecting())
        first = budget.open(nobody)
        assert first.received.available(flowing=False) == LIMIT // 4 // 2 // 8
        rest = [budget.open(nobody) for _ in range(7)]
        assert {accounts.received.available(flowing=False) for accounts in rest} == {LIMIT // 4 // 2 // 8}
    for accounts in rest:
        accounts.close()
    assert first.received.available(flowing=False) == LIMIT // 4 // 2


def test_whoever_was_not_admitted_is_told_when_there_is_room_again() -> None:
    told: list[str] = []
    pool = Pool(LIMIT)
    hot, late = pool.open(lambda: told.append("hot")), pool.open(lambda: told.append("late"))
    hot.use(LIMIT * 3 // 4)
    late.use(LIMIT // 4)
    assert not hot.reserve(KIB)
    assert not late.reserve(KIB)
    assert told == []
    hot.use(0)
    assert sorted(told) == ["hot", "late"]
    hot.use(1)
    hot.use(0)
    assert len(told) == 2, "nobody was refused since"


def test_who_asks_for_room_is_told_nothing_as_something_of_its_own_comes_or_is_settled() -> None:
    """With very many loggers each that gave something back would wake all others, for nothing."""
    told: list[str] = []
    pool = Pool(LIMIT)
    one, other = pool.open(lambda: told.append("one")), pool.open(lambda: told.append("other"))
    one.use(LIMIT // 4)
    assert one.available(flowing=True) < SMALLEST_ASK
    other.use(LIMIT // 4)
    other.use(0)
    assert told == []


def test_a_logger_that_goes_away_gives_everything_back_and_is_told_nothing() -> None:
    told: list[str] = []
    pool = Pool(LIMIT)
    gone, other = pool.open(lambda: told.append("gone")), pool.open(lambda: told.append("other"))
    gone.use(LIMIT * 3 // 4)
    other.use(LIMIT // 4)
    assert not gone.reserve(KIB)
    assert not other.reserve(KIB)
    gone.close()
    assert told == ["other"]
    assert pool.used == other.used
    assert other.available(flowing=True) == LIMIT // 4


@given(count=st.integers(2, 8), sizes=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3 * LIMIT)), max_size=40))
def test_what_is_too_large_for_any_room_is_admitted_alone_and_adds_one_pool_or_one_message(
    count: int, sizes: list[tuple[int, int]]
) -> None:
    pool = Pool(LIMIT)
    accounts = [pool.open(nobody) for _ in range(count)]
    for index, size in sizes:
        account = accounts[index % count]
        if account.reserve(size):
            account.use(account.used + size)
        else:
            account.use(0)
        assert pool.excess <= max(LIMIT, *(one.excess for one in accounts))
        assert pool.used <= LIMIT + pool.excess


def test_who_has_a_message_too_large_waits_for_the_other_one_and_is_told() -> None:
    told: list[str] = []
    pool = Pool(LIMIT)
    first, second = pool.open(lambda: told.append("first")), pool.open(lambda: told.append("second"))
    assert first.reserve(2 * LIMIT)
    first.use(2 * LIMIT)
    assert not second.reserve(2 * LIMIT)
    assert second.reserve(LIMIT // 4), "its guaranteed part"
    second.withdraw()
    assert not first.reserve(1), "not before its own is written"
    assert not second.reserve(2 * LIMIT)
    first.use(0)
    assert sorted(told) == ["first", "second"]
    assert first.reserve(1)
    first.withdraw()
    assert second.reserve(2 * LIMIT)
    second.use(10)
    assert first.reserve(2 * LIMIT), "the other one became a small dead letter"


def test_what_came_cannot_take_the_room_in_which_it_is_opened() -> None:
    budget = Budget(LIMIT)
    accounts = budget.open(nobody)
    accounts.received.use(LIMIT // 4)
    assert accounts.received.available(flowing=True) == 0
    assert accounts.decoded.has_room(LIMIT - LIMIT // 4)
    accounts.close()
    assert budget.used == 0
    assert not budget.received.accounts
    assert not budget.decoded.accounts
