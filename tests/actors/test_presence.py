"""Replicas that hear each other's beats, in virtual time: who lives, who says so, and what each takes for its home."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group, current_time, sleep

from collector.actors.presence import LISTEN, Presence
from collector.events import Failed, Failure, HomeChanged
from collector.events.lifecycle import ReplicasChanged
from collector.flow.homes import AT_HOME, BEAT, ELSEWHERE, SILENCE, TAKE_OVER, TAKING_OVER, Homes
from collector.jetstream.connection import Reconnects
from tests.support.fakes import Reports
from tests.support.virtual_time import loop, run_virtually
from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskGroup

    from collector.jetstream.beats import Beat

LOGGERS = [f"logger-{number}" for number in range(40)]


def virtually(play: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine that runs in virtual time."""

    @wraps(play)
    def test(**arguments: object) -> None:
        run_virtually(lambda: play(**arguments))

    return test


@dataclass
class Air:
    """What carries the beats."""

    replicas: list[Replica] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)

    def carry(self, sender: Replica, beat: Beat) -> None:
        for replica in self.replicas:
            if replica.side == sender.side and replica.hears:
                replica.hear(beat)


class Replica:
    """A replica on the air; its loggers are all of `LOGGERS`."""

    def __init__(self, name: str, air: Air) -> None:
        self.name, self.air, self.side = name, air, 0
        self.connected, self.hears, self.speaks = True, True, True
        self.refused, self.deaf = "", ""
        self.reports, self.reconnects, self.stopping = Reports(), Reconnects(), Event()
        self.homes, self.shares = Homes(name, clock=current_time), [0]
        self.presence = Presence(self, self.homes, self.reconnects, self.reports, self.shares.append)
        self.hear: Callable[[Beat], None] = lambda _: None
        self.listened = 0

    async def listen(self, hear: Callable[[Beat], None]) -> Replica:
        self.listened += 1
        if self.deaf:
            raise Unavailable(self.deaf)
        self.hear = hear
        return self

    async def drain(self) -> None:
        self.hear = lambda _: None

    async def send(self, beat: Beat) -> None:
        assert self.connected
        self.air.sent[self.name] += 1
        if self.speaks:
            self.air.carry(self, beat)

    @property
    def here(self) -> set[str]:
        return {home.logger for home in self.homes._homes if home.here}

    @property
    def living(self) -> str:
        return "".join(sorted(self.homes.replicas))

    def priorities(self) -> set[int]:
        return {home.priority(is_full=False) for home in self.homes._homes}


class Fleet:
    """Replicas that run."""

    def __init__(self, group: TaskGroup) -> None:
        self.air, self.group = Air(), group

    def start(self, name: str) -> Replica:
        replica = Replica(name, self.air)
        self.air.replicas.append(replica)
        self.group.start_soon(self._run, replica)
        return replica

    async def _run(self, replica: Replica) -> None:
        with ExitStack() as stack:
            for logger in LOGGERS:
                stack.enter_context(replica.homes.of(logger, list))
            await replica.presence.run(replica.stopping)

    def assert_shared(self, *replicas: Replica) -> None:
        """Each logger is at home on exactly one of them."""
        found = Counter(logger for replica in replicas for logger in replica.here)
        assert found == Counter(LOGGERS)


@asynccontextmanager
async def fleet() -> AsyncIterator[Fleet]:
    async with create_task_group() as group:
        made = Fleet(group)
        yield made
        for replica in made.air.replicas:
            replica.stopping.set()
        await sleep(1)
        group.cancel_scope.cancel()


@virtually
async def test_replicas_that_start_find_each_other_and_share_the_homes() -> None:
    async with fleet() as those:
        replicas = [those.start(name) for name in "abcd"]
        await sleep(LISTEN - 0.1)
        assert not those.air.sent, "a new replica listens first"
        await sleep(BEAT + 0.2)
        assert {replica.living for replica in replicas} == {"abcd"}
        assert {replica.shares[-1] for replica in replicas} == {4}
        those.assert_shared(*replicas)
        assert replicas[0].reports.of(ReplicasChanged)[-1].replicas == ("a", "b", "c", "d")


@virtually
async def test_a_replica_that_comes_takes_its_share_above_the_earlier_homes_and_nothing_else_moves() -> None:
    async with fleet() as those:
        a, b = those.start("a"), those.start("b")
        await sleep(100)
        before = {"a": a.here, "b": b.here}
        c = those.start("c")
        await sleep(LISTEN + BEAT + 0.1)
        those.assert_shared(a, b, c)
        assert a.here < before["a"]
        assert b.here < before["b"]
        assert c.priorities() == {TAKING_OVER, ELSEWHERE}
        assert a.priorities() == {AT_HOME, ELSEWHERE}
        await sleep(TAKE_OVER)
        assert c.priorities() == {AT_HOME, ELSEWHERE}


@virtually
async def test_a_goodbye_moves_the_homes_at_once_and_silence_within_seconds() -> None:
    async with fleet() as those:
        a, b, c = (those.start(name) for name in "abc")
        await sleep(100)
        c.stopping.set()
        await sleep(0.1)
        those.assert_shared(a, b)
        b.speaks = b.hears = False
        await sleep(SILENCE + BEAT)
        assert a.here == set(LOGGERS)
        assert a.priorities() >= {TAKING_OVER}, "it may be frozen, and has requests at the server"
        assert b.here == set(), "it does not hear itself"


@virtually
async def test_a_split_gives_each_side_all_loggers_and_its_end_shares_them_again() -> None:
    async with fleet() as those:
        a, b = those.start("a"), those.start("b")
        await sleep(50)
        b.side = 1
        await sleep(SILENCE + BEAT)
        assert a.here == b.here == set(LOGGERS)
        b.side = 0
        await sleep(BEAT + 0.1)
        those.assert_shared(a, b)


@virtually
async def test_a_replica_that_stood_still_does_not_take_the_silence_of_others_for_their_end() -> None:
    async with fleet() as those:
        a, b = those.start("a"), those.start("b")
        await sleep(50)
        seen = len(a.reports.of(ReplicasChanged))
        loop().stand_still(60)
        await sleep(3 * BEAT)
        assert (a.living, b.living) == ("ab", "ab")
        assert len(a.reports.of(ReplicasChanged)) == seen


@virtually
async def test_homes_stay_over_a_lost_connection_that_comes_back_soon() -> None:
    async with fleet() as those:
        replicas = [those.start(name) for name in "abc"]
        await sleep(50)
        for replica in replicas:
            replica.reports.all.clear()
            replica.connected = False
        await sleep(120)
        for replica in replicas:
            replica.connected = True
            replica.reconnects.notify()
        await sleep(2 * BEAT)
        assert [replica.reports.of(HomeChanged) for replica in replicas] == [[], [], []]
        those.assert_shared(*replicas)


@virtually
async def test_who_may_not_publish_has_no_home_says_so_once_and_asks_seldom() -> None:
    async with fleet() as those:
        a, b = those.start("a"), those.start("b")
        b.speaks, b.refused = False, "NATS does not permit us to publish to beta.replicas"
        await sleep(LISTEN + 1)
        assert b.here == set()
        await sleep(1800)
        assert a.here == set(LOGGERS)
        (said,) = b.reports.of(Failed)
        assert said.failure is Failure.REFUSED
        assert "beta.replicas" in said.error
        assert b.listened == 3
        assert b.priorities() == {ELSEWHERE}


@virtually
async def test_who_may_not_listen_has_no_home_and_takes_part_when_a_connection_may() -> None:
    async with fleet() as those:
        a, b = those.start("a"), those.start("b")
        b.deaf = "NATS does not permit us to subscribe to beta.replicas"
        await sleep(60)
        assert (a.here, b.here) == (set(LOGGERS), set())
        b.deaf = ""
        b.reconnects.notify()
        await sleep(LISTEN + BEAT + 0.1)
        those.assert_shared(a, b)


@virtually
async def test_an_own_beat_that_does_not_come_back_without_a_refusal_is_sent_again() -> None:
    async with fleet() as those:
        a = those.start("a")
        a.hears = False
        await sleep(100)
        assert a.here == set()
        a.hears = True
        await sleep(BEAT + 0.1)
        assert a.here == set(LOGGERS)


@virtually
async def test_beats_are_few() -> None:
    async with fleet() as those:
        for name in "abcdefgh":
            those.start(name)
        await sleep(LISTEN + 100 * BEAT)
        assert max(those.air.sent.values()) <= 102


@pytest.mark.parametrize("beats", [0, 1, 3])
def test_the_end_is_told_whenever_it_comes(beats: int) -> None:
    async def play() -> None:
        async with fleet() as those:
            a = those.start("a")
            await sleep(20)
            b = those.start("b")
            await sleep(LISTEN / 2 if not beats else LISTEN + beats * BEAT - 0.1)
            b.stopping.set()
            await sleep(0.1)
            assert a.living == "a"

    run_virtually(play)
