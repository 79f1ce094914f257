"""The state of a logger with two sides, its archive and its other destination: the worse of both, with the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.events import LoggerState, State

if TYPE_CHECKING:
    from collector.events import Event, Report

_WORST_FIRST = (
    State.PARKED,
    State.MISCONFIGURED,
    State.FAILING,
    State.BACKING_OFF,
    State.STANDBY,
    State.DRAINING,
    State.RUNNING,
)


class Sides:
    """Joins the states that the sides of one logger report. Other events are handed on as they are."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._states: dict[str, LoggerState] = {}

    def of(self, side: str) -> Report:
        """Return the report of one side, whose name stands in front of its reasons."""

        def report(event: Event) -> None:
            if isinstance(event, LoggerState):
                self._states[side] = event
                if event.state is None:
                    del self._states[side]
                self._report(self._joined(event.logger))
            else:
                self._report(event)

        return report

    def _joined(self, logger: str) -> LoggerState:
        states = {state.state for state in self._states.values()}
        worst = next((state for state in _WORST_FIRST if state in states), None)
        why = "; ".join(f"{side}: {state.why}" for side, state in self._states.items() if state.why)
        return LoggerState(logger, worst, why)
