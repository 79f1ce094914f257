"""Patience: tries what a pipeline needs until it works, and says once what it waits for."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from anyio import CancelScope, move_on_after

from collector.actors.waiting import first_of
from collector.errors import SinkUnavailable, WrongCollection, WrongDestination
from collector.events import LoggerState, Report, State
from collector.runtime.backoff import exponential
from transfer.errors import Conflict, TransferError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio import Event

    from collector.sinks import Slots

_T = TypeVar("_T")
_NO_TURNS: Slots = nullcontext()
_CAP = 2.0
"""Seconds between two tries at most."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The patience of one logger's pipeline."""

    key: str
    report: Report
    turns: Slots = _NO_TURNS
    """Limits how many loggers try at the same time; the wait for a turn may be cut, the try may not."""

    async def until_done(self, prepare: Callable[[], Awaitable[_T]], *ends: Event) -> _T | None:
        """Try until it works; None when one of these is set before that. A reason to wait is reported once."""
        curve, attempt, reported = exponential(0.1, _CAP), 0, ""
        while not any(end.is_set() for end in ends):
            try:
                async with self.turns:
                    if any(end.is_set() for end in ends):
                        return None
                    with CancelScope(shield=True):  # drivers are never cut; each call has a deadline of its own
                        return await prepare()
            except (TransferError, SinkUnavailable, WrongCollection, WrongDestination) as exc:
                if str(exc) != reported:
                    reported = str(exc)
                    wrong = isinstance(exc, Conflict | WrongCollection | WrongDestination)
                    self.report(LoggerState(self.key, State.MISCONFIGURED if wrong else State.BACKING_OFF, reported))
            attempt += 1
            with move_on_after(curve(attempt)):
                await first_of(*ends)
        return None
