"""How much is asked for at home and elsewhere: half is kept for the moment in which a logger comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import Event

from collector.actors.requests import PullLimits, Requests
from collector.flow.budget import Budget
from collector.flow.homes import AT_HOME, ELSEWHERE, TAKE_OVER, TAKING_OVER, Home
from collector.flow.in_hand import InHand
from collector.jetstream.pace import HEARTBEAT
from collector.jetstream.pull import Pull
from tests.support.fakes import ATTACHED, FakeLink, delivery
from transfer.jetstream.api import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.model import Delivery

LIMITS = PullLimits(messages=600, request_bytes=1 << 20, batch=100)


class Scene:
    """The requests of one logger, without the actors around them."""

    def __init__(self, *, here: bool, elsewhere: bool = False, budget: int = 64 << 20, loggers: int = 1) -> None:
        self.now, self.link, self.in_hand = 0.0, FakeLink(), InHand()
        self.pull = Pull(self.link, ATTACHED, inbox="_INBOX.a", in_hand=self.in_hand, clock=lambda: self.now)
        self.home = Home("a", self.pull.wake, lambda: self.now, here=here)
        self.home.elsewhere = elsewhere
        pool = Budget(budget)
        self.accounts, *_ = [pool.open(Event().set) for _ in range(loggers)]
        self.requests = Requests(self.pull, self.in_hand, self.accounts, LIMITS, self.home)

    async def top_up(self, last: Delivery | None = None) -> None:
        await self.requests.top_up(last)

    async def come(self, *, takes_over: bool = True) -> None:
        self.home.here, self.home.elsewhere = True, False
        self.home.taking_over_until = self.now + TAKE_OVER if takes_over else 0.0
        await self.top_up()

    async def deliver(self, several: Sequence[Delivery]) -> None:
        await self.pull.open()
        self.link.deliver(*several)
        self.pull.take()
        await self.top_up(several[-1])

    @property
    def asked(self) -> list[tuple[int, int]]:
        return [(wanted["batch"], wanted["priority"]) for _, wanted in self.link.requests]

    @property
    def heartbeats(self) -> list[float]:
        return [wanted["idle_heartbeat"] / NANOSECONDS for _, wanted in self.link.requests]

    def expire(self, number: int) -> None:
        """End a request at its time."""
        request: Any = self.link.requests[number][1]
        rest = f"Nats-Pending-Messages: {request['batch']}\r\nNats-Pending-Bytes: {request['max_bytes']}\r\n"
        self.link.say("408 Request Timeout", number, rest)


async def test_at_home_all_of_the_room_is_asked_for_at_once() -> None:
    scene = Scene(here=True)
    for _ in range(3):
        await scene.top_up()
    assert scene.asked == [(600, AT_HOME)]


@pytest.mark.parametrize(("budget", "loggers"), [(64 << 20, 1), (64 << 20, 1500), (1 << 20, 1)])
async def test_elsewhere_half_is_kept_until_the_logger_comes(budget: int, loggers: int) -> None:
    scene = Scene(here=False, budget=budget, loggers=loggers)
    for _ in range(3):
        await scene.top_up()
    ((half, priority),) = scene.asked
    assert priority == ELSEWHERE
    for _ in range(3):
        await scene.come()
    assert [priority for _, priority in scene.asked] == [ELSEWHERE, TAKING_OVER], "at once, and once"
    assert scene.asked[1][0] >= min(half, 8)
    assert scene.accounts.received.used <= scene.accounts.received.guaranteed


async def test_a_request_of_before_that_ends_is_no_reason_to_ask_again() -> None:
    scene = Scene(here=False)
    await scene.pull.open()
    await scene.top_up()
    await scene.come(takes_over=False)
    scene.now = 60.0
    scene.expire(0)
    await scene.top_up()
    assert len(scene.asked) == 2
    scene.expire(1)
    await scene.top_up()
    assert scene.asked[2] == (600, AT_HOME)


async def test_a_replica_away_from_home_is_told_seldom_that_its_request_waits_until_it_has_work() -> None:
    """Each replica has a request for each logger: heartbeats of those that wait for nothing cost more than entries."""
    scene = Scene(here=False, elsewhere=True)
    await scene.top_up()
    assert scene.heartbeats == [5 * HEARTBEAT]
    await scene.deliver([delivery(number) for number in range(1, 51)])
    assert scene.heartbeats == [5 * HEARTBEAT, HEARTBEAT], "a logger that its home cannot follow is watched closely"


@pytest.mark.parametrize("here", [True, False])
async def test_a_home_and_a_replica_that_knows_no_homes_are_told_often_that_their_requests_wait(*, here: bool) -> None:
    scene = Scene(here=here)
    await scene.top_up()
    assert scene.heartbeats == [HEARTBEAT]


async def test_a_logger_that_comes_is_watched_closely_at_once() -> None:
    scene = Scene(here=False, elsewhere=True)
    await scene.top_up()
    await scene.come()
    assert scene.heartbeats == [5 * HEARTBEAT, HEARTBEAT]


async def test_a_replica_that_is_given_messages_asks_for_all_of_its_room_also_elsewhere() -> None:
    scene = Scene(here=False)
    await scene.top_up()
    await scene.deliver([delivery(number) for number in range(1, 51)])
    assert scene.asked == [(300, ELSEWHERE), (300, ELSEWHERE)]


async def test_a_home_that_holds_a_full_batch_asks_like_all_others() -> None:
    scene = Scene(here=True)
    await scene.top_up()
    await scene.deliver([delivery(number) for number in range(1, 99)])
    assert scene.asked == [(600, AT_HOME)]
    several = [delivery(number) for number in range(99, 400)]
    await scene.deliver(several)
    scene.in_hand.release(several)
    await scene.top_up()
    assert [priority for _, priority in scene.asked] == [AT_HOME, AT_HOME], "it holds less than a batch again"
    scene.in_hand.release([delivery(number) for number in range(1, 99)])
    await scene.deliver([delivery(number) for number in range(400, 700)])
    scene.in_hand.release([delivery(number) for number in range(400, 600)])
    await scene.top_up()
    assert scene.asked[-1][1] == ELSEWHERE
