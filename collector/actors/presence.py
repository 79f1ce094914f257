"""Presence: tells the other replicas that this one lives, hears which ones do, and moves the homes of loggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import CancelScope, Event, current_time, move_on_after

from collector.actors.waiting import first_of
from collector.events import Failed, Failure, HomeChanged, Report, Stage
from collector.events.lifecycle import ReplicasChanged
from collector.flow.homes import BEAT, Living
from collector.jetstream.beats import Beat
from transfer.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.flow.homes import Homes
    from collector.jetstream.beats import Beats
    from collector.jetstream.connection import Reconnects

LISTEN = 2.5 * BEAT
"""Seconds that a new replica listens before its first beat: it knows all others before it is the home of a logger."""
_TRY_AGAIN = 600.0
"""Seconds before beats are tried again that are not permitted."""
_STOOD_STILL = 2 * BEAT
"""Seconds between two turns after which this replica itself may not have heard what came."""


class Presence:
    """Beats, listens to beats, and reports the living replicas.

    Without own beats that come back no logger is at home here: this replica takes what other homes leave, and replicas
    that all do so share every logger. An end is told to the others at once.
    """

    name = "presence"

    def __init__(
        self, beats: Beats, homes: Homes, reconnects: Reconnects, report: Report, share: Callable[[int], object]
    ) -> None:
        """`share` is called with the number of living replicas, 0 while they are unknown."""
        self._beats = beats
        self._homes = homes
        self._reconnects = reconnects
        self._report = report
        self._share = share
        self._living = Living(homes.me)
        self._changed = Event()
        """Set when a replica came or said goodbye."""
        self._again = Event()
        """Set at a new connection to NATS."""
        self._deaf = False

    async def run(self, stopping: Event) -> None:
        """Take part until asked to stop."""
        with self._reconnects.listening(self._connected_again):
            while not stopping.is_set():
                self._again = Event()
                await self._take_part(stopping)
                self._move()
                with move_on_after(_TRY_AGAIN):
                    await first_of(stopping, self._again)

    async def _take_part(self, stopping: Event) -> None:
        """Listen and beat until asked to stop, or until one of both is refused."""
        try:
            with CancelScope(shield=True):  # it has deadlines of its own
                subscribed = await self._beats.listen(self._hear)
        except Unavailable as exc:
            self._say_deaf(Failure.UNAVAILABLE, str(exc))
            return
        try:
            with move_on_after(LISTEN):
                await stopping.wait()
            await self._beat(stopping)
        finally:
            with CancelScope(shield=True):
                await self._say_goodbye()
                await subscribed.drain()

    async def _beat(self, stopping: Event) -> None:
        """Send a beat every `BEAT` seconds, and move the homes when replicas come and go."""
        due = turned = current_time()
        while not stopping.is_set():
            self._changed = Event()
            if due <= current_time() and self._beats.connected:
                await self._beats.send(Beat(self._homes.me))
                due = current_time() + BEAT
            with move_on_after(max(0.0, due - current_time()) or BEAT):
                await first_of(stopping, self._changed)
            now = current_time()
            if now - turned > _STOOD_STILL:
                self._living.forgive(now)
            turned = now
            if self._beats.connected:
                self._move()
                if not self._homes.replicas and (refused := self._beats.refused):
                    self._say_deaf(Failure.REFUSED, refused)
                    return

    async def _say_goodbye(self) -> None:
        self._living.left(self._homes.me)
        if self._beats.connected:
            await self._beats.send(Beat(self._homes.me, leaves=True))

    def _hear(self, beat: Beat) -> None:
        if beat.leaves:
            self._living.left(beat.replica)
            self._changed.set()
        elif self._living.heard(beat.replica, current_time()):
            self._changed.set()

    def _connected_again(self) -> None:
        self._living.forgive(current_time())
        self._changed.set()
        self._again.set()

    def _move(self) -> None:
        """Move the homes when the living replicas are others than before."""
        living = self._living.at(current_time())
        if living == self._homes.replicas:
            return
        for home in self._homes.move(living):
            self._report(HomeChanged(home.logger, here=home.here))
        self._report(ReplicasChanged(tuple(sorted(living))))
        self._share(len(living))
        self._deaf = self._deaf and not living

    def _say_deaf(self, failure: Failure, why: str) -> None:
        """Say once why this replica does not know the others."""
        if not self._deaf:
            self._deaf = True
            error = f"{why}; so no logger is at home on this replica, and a trickle is cut among the replicas"
            self._report(Failed("", Stage.CONTROL, failure, error, f"trying again every {_TRY_AGAIN:g} s"))
