"""What many loggers in one pool cost each other: the work for each of them does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from collector.flow.pool import COMES_WITHIN, PATIENCE, SMALLEST_GUARANTEE, Account, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


LIMIT = 8 * 1024 * 1024
SIZE = SMALLEST_GUARANTEE
"""What each logger holds, and asks for once more."""


class Counted(dict[Account, "Any"]):
    """The line of a pool, which counts how often somebody in it is looked at."""

    looks = searches = 0

    def items(self) -> Iterator[tuple[Account, Any]]:  # type: ignore[override]
        """Yield those in the line, and count them."""
        self.searches += 1
        for item in super().items():
            self.looks += 1
            yield item


class Line:
    """Loggers that have used their guarantee and wait for more, because others hold all that can be lent."""

    def __init__(self, loggers: int) -> None:
        self.now = 0.0
        self.pool = Pool(LIMIT, lambda: self.now)
        self.woken = list[Account]()
        self.loggers = [self._opened() for _ in range(loggers)]
        for account in self.loggers:
            account.use(SIZE)
        self.borrowers = [account for account in self.loggers if self._borrowed(account)]
        self.line = Counted(self.pool._waiting)
        self.pool._waiting = self.line
        self.waiting = self.loggers[len(self.borrowers) :]
        assert len(self.waiting) > loggers / 2

    def _opened(self) -> Account:
        account = self.pool.open(lambda: self.woken.append(account))
        return account

    def _borrowed(self, account: Account) -> bool:
        granted = account.reserve(SIZE)
        if granted:
            account.use(2 * SIZE)
        return granted

    def ask_again(self) -> None:
        """Have every logger in the line ask again, as it does now and then."""
        self.now += COMES_WITHIN + 0.1
        for account in self.waiting:
            assert not account.reserve(SIZE)

    def free_all(self) -> None:
        """Have each borrower give its loan back, and each logger that is woken take it and give it back too."""
        for account in self.borrowers:
            account.use(SIZE)
            while self.woken:
                woken = self.woken.pop()
                if woken.reserve(SIZE):
                    woken.withdraw()
                    woken.use(2 * SIZE)
                    woken.use(SIZE)


def grows(act: Callable[[Line], object]) -> tuple[int, int]:
    """Return the looks for 2,000 loggers and for 4,000."""
    few, many = (Line(loggers) for loggers in (2000, 4000))
    act(few)
    act(many)
    return few.line.looks, many.line.looks


def test_asking_again_and_giving_back_cost_each_logger_the_same_however_many_wait() -> None:
    for act in (Line.ask_again, Line.free_all):
        few, many = grows(act)
        assert 0 < few < many < 2.5 * few


def test_all_that_wait_get_room_when_it_comes_back() -> None:
    line = Line(4000)
    line.free_all()
    for _ in range(20):
        line.now += COMES_WITHIN + 0.1
        for account in line.waiting:
            if account.is_waiting and account.reserve(SIZE):
                account.withdraw()
    assert not any(account.is_waiting for account in line.waiting)


def test_the_line_is_not_sorted_anew_when_somebody_in_it_asks_again() -> None:
    line = Line(2000)
    line.ask_again()
    assert line.pool._waiting is line.line


def test_many_in_the_line_ask_less_often() -> None:
    assert Line(600).pool.asks_again_within == COMES_WITHIN
    line = Line(6000)
    assert line.pool.asks_again_within == pytest.approx(COMES_WITHIN * len(line.waiting) / 1000)


def test_one_search_for_starving_loggers_is_for_all_that_may_block_them() -> None:
    line = Line(2000)
    taker, starving = line._opened(), line._opened()
    assert taker.reserve(LIMIT), "as excess"
    taker.use(LIMIT)
    assert not starving.reserve(LIMIT)
    line.now += PATIENCE + 1
    line.line.searches = 0
    assert all(account.blocks_others for account in line.borrowers)
    assert line.line.searches == 1
