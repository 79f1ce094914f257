"""Loggers that wait for room: each gets it in its turn, and is told no more often than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.flow.pool import COMES_WITHIN, PATIENCE, Pool
from tests.support.budgets import KIB, LIMIT, Clock, nobody

if TYPE_CHECKING:
    from random import Random


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
    random=st.randoms(use_true_random=True),
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
