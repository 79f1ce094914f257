"""The bytes of a replica, shared by its loggers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.flow.budget import Budget
from collector.flow.pool import COMES_WITHIN, PATIENCE, SMALLEST_ASK, SMALLEST_GUARANTEE, Account, Pool

if TYPE_CHECKING:
    from random import Random

KIB = 1024
LIMIT = 1024 * KIB


def nobody() -> None:
    """Wait for nothing."""


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def move(account: Account, size: int) -> None:
    """Let so much come and be settled."""
    used = account.used
    account.use(used + size)
    account.use(used)


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
    assert not budget.accounts


class Logger:
    """A logger whose messages are of one size, and that may not come when it is told of room."""

    def __init__(self, pool: Pool, size: int, *, comes: bool) -> None:
        self.size, self.comes = size, comes
        self.told = self.holds = False
        self.served = 0
        self.account = pool.open(self.tell)

    def tell(self) -> None:
        self.told = True

    def ask(self) -> None:
        self.told = False
        if self.account.reserve(self.size):
            self.holds = True
            self.account.use(self.account.used + self.size)
            self.served += 1

    def settle(self) -> None:
        self.holds = False
        self.account.use(0)
        self.account.withdraw()


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 3 * LIMIT), min_size=2, max_size=40),
    absent=st.sets(st.integers(0, 39), max_size=5),
    most_excess=st.sampled_from([0, LIMIT]),
    random=st.randoms(use_true_random=False),
)
def test_of_many_that_wait_for_room_nobody_starves_also_when_some_do_not_come_when_they_are_told(
    sizes: list[int], absent: set[int], most_excess: int, random: Random
) -> None:
    """One that is told of room comes at once or, as the consumer does, within COMES_WITHIN; some do not come at all."""
    clock = Clock()
    pool = Pool(LIMIT, clock, most_excess=most_excess)
    loggers = [Logger(pool, size, comes=number not in absent) for number, size in enumerate(sizes)]
    for logger in loggers:
        logger.ask()
    for _ in range(len(loggers)):
        holding = [logger for logger in loggers if logger.holds]
        for logger in random.sample(holding, len(holding)):
            logger.settle()
            coming = [
                one for one in loggers if one.comes and not one.holds and (one.told or not one.account.is_waiting)
            ]
            for one in random.sample(coming, len(coming)):
                one.ask()
            assert pool.used <= LIMIT + max(most_excess, *sizes)
        clock.now += COMES_WITHIN + 0.01
        for logger in loggers:
            if logger.comes and logger.account.is_waiting:
                logger.ask()
    assert all(logger.served for logger in loggers if logger.comes)


def test_who_waits_for_room_is_told_no_more_often_than_there_is_room_for_one_of_them() -> None:
    told: list[int] = []
    pool = Pool(LIMIT, Clock(), most_excess=0)
    holder, *waiting = [pool.open(lambda number=number: told.append(number)) for number in range(301)]  # type: ignore[misc]
    assert holder.reserve(2 * LIMIT)
    holder.use(2 * LIMIT)
    for account in waiting:
        assert not account.reserve(2 * LIMIT)
    for account in waiting:
        account.use(1)
        account.use(0)
    assert told == []
    holder.use(0)
    assert told == [1]
    assert not waiting[7].reserve(2 * LIMIT), "it was not its turn"
    assert waiting[0].reserve(2 * LIMIT)


def test_who_asks_for_more_keeps_its_place_in_the_line() -> None:
    pool = Pool(LIMIT, Clock(), most_excess=0)
    first, second = pool.open(nobody), pool.open(nobody)
    assert first.reserve(2 * LIMIT)
    first.use(2 * LIMIT)
    assert not second.reserve(2 * LIMIT)
    first.use(0)
    assert first.reserve(3 * LIMIT), "it was too little"
    first.use(3 * LIMIT)
    first.use(0)
    first.withdraw()
    assert not first.reserve(2 * LIMIT), "that is another message"
    assert second.reserve(2 * LIMIT)


def test_who_holds_room_for_long_is_in_the_way_of_those_that_hold_nothing_and_of_nobody_else() -> None:
    clock = Clock()
    pool = Pool(LIMIT, clock, most_excess=0)
    stuck, moving, starving, busy = [pool.open(nobody) for _ in range(4)]
    assert stuck.reserve(2 * LIMIT)
    stuck.use(2 * LIMIT)
    moving.use(LIMIT // 4)
    busy.use(KIB)
    assert not busy.reserve(LIMIT)
    clock.now += 2 * PATIENCE
    assert not stuck.blocks_others, "one that waits has something to write itself"
    assert not starving.reserve(LIMIT)
    clock.now += PATIENCE / 2
    assert not starving.reserve(LIMIT), "it asks again and again"
    assert not stuck.blocks_others
    clock.now += PATIENCE / 2
    moving.use(LIMIT // 4 - KIB)
    assert [account.blocks_others for account in (stuck, moving, starving, busy)] == [True, False, False, False]
    stuck.close()
    assert starving.reserve(LIMIT)


def test_who_is_told_of_room_and_does_not_come_is_passed_over_after_a_while() -> None:
    clock = Clock()
    pool = Pool(LIMIT, clock, most_excess=0)
    holder, absent, other = [pool.open(nobody) for _ in range(3)]
    assert holder.reserve(2 * LIMIT)
    holder.use(2 * LIMIT)
    assert not absent.reserve(2 * LIMIT)
    assert not other.reserve(2 * LIMIT)
    holder.use(0)
    assert not other.reserve(2 * LIMIT)
    clock.now += COMES_WITHIN + 0.01
    assert other.reserve(2 * LIMIT)
    assert not other.is_waiting
    assert absent.is_waiting
