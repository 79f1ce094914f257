"""The pipeline of one logger: finds its stream, opens its destination, moves entries, and begins again.

Its state is in JetStream, so a new start is always safe: deliveries in hand are given back or come again.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from anyio import CancelScope, move_on_after

from collector.actors.moving import Moving
from collector.actors.patience import Patience
from collector.actors.requests import PullLimits, Requests
from collector.actors.stages import Stages
from collector.actors.waiting import first_of
from collector.decoding.codec import Codec
from collector.events import LoggerState, State
from collector.flow.batch_age import LoggerAge
from collector.flow.gathering import Enough, Gathering
from collector.flow.in_hand import InHand
from collector.flow.settler import Settler
from collector.jetstream.pace import Pace
from collector.jetstream.pull import Pull
from transfer.errors import Unavailable
from transfer.jetstream.comparison import not_meant

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio import Event

    from collector.actors.moving import Shared
    from collector.jetstream.source import Attached
    from collector.sinks import Target
    from transfer.wire import LoggerSpec

_ANEW_PAUSE = 0.2
_UNHEARD_PAUSE = 10.0
"""Seconds before a refused subscription is tried again."""


class Pipeline:
    """Moves the entries of one logger from its stream to its destination until it is asked to stop."""

    __slots__ = ("_destination", "_key", "_patience", "_shared", "_source", "_spec", "name")

    def __init__(self, spec: LoggerSpec, shared: Shared) -> None:
        self.name = f"pipeline {spec.key}"
        self._key = spec.key
        self._spec = spec
        self._shared = shared
        self._source = shared.sources.of(spec.key)
        self._destination = shared.destinations.of(spec)
        self._patience = Patience(spec.key, shared.report, shared.turns)

    async def run(self, stopping: Event) -> None:
        """Find stream and destination, move entries, and begin again when one of them is made anew."""
        with self._shared.budget.expecting():
            while not stopping.is_set():
                await self._live(stopping)
                with move_on_after(_ANEW_PAUSE):  # a stream that is made anew again and again must not cause a hot loop
                    await stopping.wait()

    async def _live(self, stopping: Event) -> None:
        """Move the entries of one incarnation of the stream."""
        attached = await self._patience.until_done(self._attach, stopping)
        if attached is None:
            return
        async with self._destination.opened(attached, stopping) as target:
            if target is not None:
                ends = (stopping, target.leaving, target.lost)
                if not target.stood_by or await self._is_still(attached, *ends):
                    await self._move(attached, target, stopping)

    async def _attach(self) -> Attached:
        return await self._source.attach()

    async def _is_still(self, attached: Attached, *ends: Event) -> bool:
        """Check the stream again; return whether it is still the same incarnation."""
        now = await self._patience.until_done(self._attach, *ends)
        return now is not None and now.incarnation == attached.incarnation

    async def _move(self, attached: Attached, target: Target, stopping: Event) -> None:
        shared, settings, in_hand = self._shared, self._shared.settings, InHand()
        codec = Codec(attached.incarnation, shared.rules_of(self._spec))
        limits = PullLimits(settings.most_held, settings.batch_bytes, settings.batch_entries)
        gathering, pull = self._pull(attached, in_hand)
        with shared.homes.of(self._key, pull.wake, owned=target.stood_by) as home:
            if not await self._is_listening(pull, stopping, target.leaving, target.lost):
                return
            try:
                with closing(shared.budget.open(pull.wake)) as accounts:
                    moving = Moving(
                        key=self._key,
                        shared=shared,
                        source=self._source,
                        attached=attached,
                        target=target,
                        pull=pull,
                        in_hand=in_hand,
                        level=shared.levels.open(self._key, in_hand),
                        accounts=accounts,
                        gathering=gathering,
                        requests=Requests(pull, in_hand, accounts, limits, home),
                        settler=Settler(self._key, in_hand, pull, shared.report),
                        codec=codec,
                        home=home,
                        risks=risks_of(self._spec, attached, target.risks),
                    )
                    await Stages(moving).run(stopping)
            finally:
                with CancelScope(shield=True):  # it has deadlines of its own
                    await pull.drain()

    def _pull(self, attached: Attached, in_hand: InHand) -> tuple[Gathering, Pull]:
        """Return the pull subscription, and what wakes it."""

        def wake() -> None:
            pull.wake()

        shared, gathering = self._shared, self._gathering(wake)
        pull = Pull(
            shared.nats.link,
            attached,
            inbox=shared.nats.connection.new_inbox(),
            in_hand=in_hand,
            clock=shared.clock,
            pace=Pace(shared.kept.__len__),
            wakes=gathering.came,
        )
        return gathering, pull

    def _gathering(self, wake: Callable[[], None]) -> Gathering:
        shared = self._shared
        enough = Enough(shared.settings.batch_entries, shared.settings.batch_bytes)
        age, late_alarm = LoggerAge(shared.batch_age), shared.late_alarms.set
        return Gathering(age, enough, shared.clock, shared.alarms.set, wake, late_alarm=late_alarm)

    async def _is_listening(self, pull: Pull, *ends: Event) -> bool:
        """Subscribe; when the server refuses, report why, wait, and return False: an owner gives back."""
        try:
            with CancelScope(shield=True):  # it has deadlines of its own
                await pull.open()
        except Unavailable as exc:
            self._shared.report(LoggerState(self._key, State.BACKING_OFF, str(exc)))
            with move_on_after(_UNHEARD_PAUSE):
                await first_of(*ends)
            return False
        return True


def risks_of(spec: LoggerSpec, attached: Attached, others: str = "") -> str:
    """Return the risks for entries, without those that the logger's spec asks for."""
    of_stream = map(str, not_meant(attached.risks, spec.stream))
    return "; ".join(filter(None, (*of_stream, others)))
