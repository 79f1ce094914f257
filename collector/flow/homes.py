"""The home of each logger: the one of the living replicas whose requests JetStream serves first. Pure.

So a trickle is not cut among replicas into small batches. The other replicas get what the home has no room for, and
everything when it dies. Homes decide about costs only: when two replicas think that a logger is at home there, or none
does, JetStream shares the messages among them, and each message is still given to one replica.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from hashlib import blake2b
from typing import TYPE_CHECKING

from collector.runtime.lasting import Lasting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

TAKING_OVER, AT_HOME, ELSEWHERE, STARTING = 0, 1, 2, 3
"""Priorities of requests: JetStream serves the lowest number first, and requests of one number in turn."""
SHORT_LIVED = frozenset({TAKING_OVER, STARTING})
"""Priorities of requests that are soon to be made anew with another one."""
START = 30.0
"""Seconds after the start in which the replicas are about to become known."""
TAKE_OVER = 70.0
"""Seconds for which a new home asks as `TAKING_OVER`, above the requests of the earlier home: that replica may be
frozen, and its last request lives for 60 s."""
SHORT = 10.0
"""Seconds that a short-lived request lives at most: the next home may have to wait for its end."""
BEAT = 2.0
"""Seconds between two beats of a replica."""
SILENCE = 7.0
"""Seconds without a beat after which a replica counts as gone."""
_MOST = 1000
"""Replicas that are remembered: anybody may publish beats."""


def home_of(logger: str, replicas: Iterable[str]) -> str:
    """Return the home of a logger by rendezvous hashing: a replica that comes or goes moves only its own loggers."""
    return max(replicas, key=lambda replica: (_weight(logger, replica), replica))


def _weight(logger: str, replica: str) -> bytes:
    return blake2b(f"{replica} {logger}".encode(), digest_size=8).digest()


class Living:
    """The replicas that live, by the beats that this replica has heard, its own among them."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._heard: dict[str, float] = {}

    def heard(self, replica: str, now: float) -> bool:
        """Note a beat; return whether it is the first one of that replica."""
        new = replica not in self._heard
        if new and len(self._heard) >= _MOST and replica != self._me:
            return False
        self._heard[replica] = now
        return new

    def left(self, replica: str) -> None:
        """Note that a replica has said goodbye."""
        self._heard.pop(replica, None)

    def forgive(self, now: float) -> None:
        """Count the silence of all anew: this replica itself could not hear."""
        self._heard = dict.fromkeys(self._heard, now)

    def at(self, now: float) -> frozenset[str]:
        """Return the replicas that live, and forget the others; none when the own beats do not come back."""
        self._heard = {replica: heard for replica, heard in self._heard.items() if now - heard < SILENCE}
        return frozenset(self._heard) if self._me in self._heard else frozenset()


class Home:
    """The home of one logger, as this replica sees it."""

    __slots__ = ("_clock", "elsewhere", "here", "logger", "on_come", "starting_until", "taking_over_until")

    def __init__(self, logger: str, on_come: Callable[[], object], clock: Callable[[], float], *, here: bool) -> None:
        self.logger = logger
        self.on_come = on_come
        """Called when the logger has come here, or is here and other replicas come."""
        self.here = here
        self.elsewhere = False
        """Whether another living replica is the home; neither it nor `here` is true while the replicas are unknown."""
        self.taking_over_until = self.starting_until = -math.inf
        self._clock = clock

    def priority(self, *, is_full: bool) -> int:
        """Return the priority of a request; a replica that holds a full batch of the logger shares it with all."""
        if is_full or not self.here:
            return STARTING if self._clock() < self.starting_until else ELSEWHERE
        return TAKING_OVER if self._clock() < self.taking_over_until else AT_HOME


class Homes:
    """The homes of all loggers that a replica moves."""

    def __init__(
        self, me: str, replicas: frozenset[str] = frozenset(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.me = me
        self._clock = clock
        self.replicas = replicas
        """The living replicas; none while they are unknown, and then no logger is at home here."""
        self._homes: set[Home] = set()
        self._begin, self._end = self._homes.add, self._homes.discard
        self._starting_until = clock() + START

    def of(
        self, logger: str, on_come: Callable[[], object], *, owned: bool = False
    ) -> AbstractContextManager[Home, bool | None]:
        """Follow the home of a logger while the block lasts; one that this replica owns is at home here."""
        home = Home(logger, on_come, self._clock, here=owned or self._is_here(logger))
        if owned:
            return nullcontext(home)
        home.starting_until = -math.inf if self.replicas else self._starting_until
        home.elsewhere = self.is_elsewhere(logger)
        return Lasting(self._begin, self._end, home, home)

    def move(self, replicas: frozenset[str]) -> list[Home]:
        """Take these replicas as the living ones; return the homes that have changed.

        A logger that has come here is taken over from its earlier home, unless no other replica was ever heard. The
        homes of a replica that is alone no more are told too: it has asked like one that is no home until now.
        """
        takes_over, was_alone = bool(self.replicas) or len(replicas) > 1, len(self.replicas) == 1 < len(replicas)
        self.replicas = replicas
        changed = [home for home in self._homes if home.here != self._is_here(home.logger)]
        for home in changed:
            home.here = not home.here
        for home in self._homes:
            home.starting_until = -math.inf
            home.elsewhere = bool(replicas) and not home.here
        for home in changed:
            if home.here and takes_over:
                home.taking_over_until = self._clock() + TAKE_OVER
                home.on_come()
        for home in self._homes.difference(changed) if was_alone else ():
            if home.here:
                home.on_come()
        return changed

    def is_elsewhere(self, logger: str) -> bool:
        """Tell whether another living replica is the home of a logger; false while the replicas are unknown."""
        return bool(self.replicas) and not self._is_here(logger)

    def _is_here(self, logger: str) -> bool:
        return bool(self.replicas) and home_of(logger, self.replicas) == self.me
