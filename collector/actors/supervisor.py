"""Supervision: children that crash are started again with backoff. Restarts are one for one: other children go on.

`Supervisor` keeps the permanent children of the root, one for one, and gives up when one crashes too often.
`Pipelines` keeps one child for each logger, one for one, and never gives up.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from anyio import (
    create_task_group,
    current_effective_deadline,
    current_time,
    get_cancelled_exc_class,
    move_on_after,
)
from msgspec.structs import replace

from collector.errors import ChildExited, GaveUp, leaves, safe_description
from collector.events import Crashed, GivenUp, LoggerState, Report, State
from collector.runtime.backoff import exponential
from collector.runtime.latch import Latch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio import Event
    from anyio.abc import TaskGroup

    from transfer.wire import LoggerSpec

RESTART_CAP = 30.0
"""Seconds between two restarts at most."""
_HEALTHY_AFTER = 60.0
"""A child that ran this long starts counting its crashes anew."""


class Child(Protocol):
    """An actor that a supervisor starts."""

    @property
    def name(self) -> str:
        """The child's name in the log."""

    async def run(self, stopping: Event) -> None:
        """Run until asked to stop; every other end is a crash."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """The number of crashes within `seconds` that is too high."""

    crashes: int = 10
    seconds: float = 300.0


async def _run_walled(child: Child, stopping: Event) -> None:
    """Run the child; a stray CancelledError in it is a crash. A task of its own would take a tenth of a logger."""
    try:
        await child.run(stopping)
    except get_cancelled_exc_class():
        if current_effective_deadline() == -math.inf:
            raise  # we are cancelled, and not the child alone
    if not stopping.is_set():
        raise ChildExited(child.name)


async def _keep_running(
    child: Child, key: str, stopping: Event, on_crash: Callable[[str, Exception, int], float]
) -> None:
    """Run a child again and again until it is asked to stop; `on_crash` gets `key` and returns the seconds to wait."""
    attempt = 0
    while not stopping.is_set():
        started = current_time()
        try:
            await _run_walled(child, stopping)
        except Exception as exc:  # noqa: BLE001 - restarting children is the supervisor's job
            attempt = 1 if current_time() - started > _HEALTHY_AFTER else attempt + 1
            with move_on_after(on_crash(key, exc, attempt)):
                await stopping.wait()


class Supervisor:
    """Keeps permanent children running, one for one; raises GaveUp when one of them crashes too often."""

    def __init__(self, children: Sequence[Child], report: Report, intensity: Intensity | None = None) -> None:
        self._children = children
        self._report = report
        self._intensity = intensity or Intensity()
        self._curve = exponential(0.1, RESTART_CAP)

    async def run(self, stopping: Event) -> None:
        """Run all children until asked to stop."""
        async with create_task_group() as group:
            for child in self._children:
                group.start_soon(self._keep, child, stopping, name=f"supervisor of {child.name}")

    async def _keep(self, child: Child, stopping: Event) -> None:
        crashes: deque[float] = deque(maxlen=self._intensity.crashes)

        def on_crash(_: str, exc: Exception, attempt: int) -> float:
            crashes.append(current_time())
            since = crashes[-1] - crashes[0]
            if len(crashes) == self._intensity.crashes and since < self._intensity.seconds:
                gave_up = GaveUp(child.name, len(crashes), since, safe_description(next(leaves(exc))))
                self._report(GivenUp(child.name, str(gave_up)))
                raise gave_up from exc
            delay = self._curve(attempt)
            self._report(
                Crashed(child.name, None, attempt, delay, tuple(safe_description(leaf) for leaf in leaves(exc)))
            )
            return delay

        await _keep_running(child, "", stopping, on_crash)


@dataclass(slots=True)
class _Running:
    spec: LoggerSpec
    stopping: Event


class Pipelines:
    """Keeps one pipeline for each desired logger, one for one; a crash of one pipeline does not affect the others.

    `want`, `drop` and `park` change the desired loggers and return at once. A pipeline that has to stop drains first. A
    logger that is wanted again meanwhile gets its new pipeline when the old one has ended: there are never two of them.
    """

    name = "pipelines"

    def __init__(self, make: Callable[[LoggerSpec], Child], report: Report) -> None:
        self._make = make
        self._report = report
        self._curve = exponential(0.1, RESTART_CAP)
        self._on_crash = self._crashed
        """One for all loggers: each task keeps it."""
        self._desired: dict[str, LoggerSpec] = {}
        self._running: dict[str, _Running] = {}
        self._parked: dict[str, str] = {}
        self._group: TaskGroup | None = None

    @property
    def known(self) -> set[str]:
        """The keys that are wanted or parked."""
        return {*self._desired, *self._parked}

    @property
    def running(self) -> set[str]:
        """The keys that have a pipeline now, draining ones included."""
        return set(self._running)

    async def run(self, stopping: Event) -> None:
        """Keep the pipelines until asked to stop, then let all of them drain at the same time."""
        async with create_task_group() as group:
            self._group = group
            try:
                for key in self._desired:
                    self._start(key)
                await stopping.wait()
                self._desired.clear()
            finally:
                self._group = None  # nothing is started any more, whatever is wanted from here on
            for running in self._running.values():
                running.stopping.set()

    def want(self, spec: LoggerSpec) -> None:
        """Have a pipeline for this logger. One that was made by another spec ends, and a new one begins.

        The description alone is no reason: it is for people, and several applications may state it.
        """
        self._parked.pop(spec.key, None)
        self._desired[spec.key] = spec
        running = self._running.get(spec.key)
        if running is None:
            self._start(spec.key)
        elif replace(running.spec, description="") != replace(spec, description=""):
            running.stopping.set()

    def drop(self, key: str) -> None:
        """Have no pipeline for this key."""
        if self._parked.pop(key, None) is not None and key not in self._running:
            self._report(LoggerState(key, None))
        self._stop(key)

    def park(self, key: str, why: str) -> None:
        """Have no pipeline for this key until it is wanted again, and say why."""
        if self._parked.get(key) != why:
            self._parked[key] = why
            self._report(LoggerState(key, State.PARKED, why))
        self._stop(key)

    def _stop(self, key: str) -> None:
        self._desired.pop(key, None)
        running = self._running.get(key)
        if running is not None:
            running.stopping.set()

    def _start(self, key: str) -> None:
        running = self._begun(key)
        if running is not None and self._group is not None:
            self._group.start_soon(self._keep, key, running, name=f"supervisor of {key}")

    def _begun(self, key: str) -> _Running | None:
        """Note that a pipeline of the present spec runs; None when none is wanted."""
        if self._group is None or key not in self._desired:
            return None
        self._running[key] = _Running(self._desired[key], Latch())
        return self._running[key]

    async def _keep(self, key: str, running: _Running | None) -> None:
        try:
            while running is not None:
                await _keep_running(self._make(running.spec), key, running.stopping, self._on_crash)
                running = self._begun(key)
        finally:
            del self._running[key]
            why = self._parked.get(key)
            self._report(LoggerState(key, None) if why is None else LoggerState(key, State.PARKED, why))

    def _crashed(self, key: str, exc: Exception, attempt: int) -> float:
        delay = self._curve(attempt)
        errors = tuple(safe_description(leaf) for leaf in leaves(exc))
        state = State.PARKED if delay >= RESTART_CAP else State.BACKING_OFF
        self._report(Crashed("pipeline", key, attempt, delay, errors, state))
        return delay
