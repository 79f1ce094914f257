"""The lines of an outage in the application's own log: one at the beginning, one a minute, one at the end."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from transfer.system.aside import Aside
from transfer.system.inside import Making, is_sending
from transfer.system.native import get_ident, locks_are_for_one_thread
from transfer.system.stderr import say

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("transfer")
_SPAN = 60.0
"""Seconds for which the same trouble is counted and not said again."""
_KINDS = 64
_aside = Aside("transfer log")
_AWAY = ""


@dataclass(slots=True)
class _Said:
    at: float
    more: int = 0


class Outage:
    """Says what happens to one connection; `hosts` must hold no secret."""

    def __init__(self, hosts: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = hosts
        self._clock = clock
        self._since: float | None = None
        self._said: dict[str, _Said] = {}

    def away(self, why: str) -> None:
        """Note that the connection was lost, or a try to make it failed."""
        if self._since is None:
            self._since = self._clock()
        self._say(_AWAY, f"NATS at {self._hosts} is away: {why}; connecting again")

    def back(self) -> None:
        """Note that the connection is there; it is said when it was away."""
        since, self._since = self._since, None
        self._said.pop(_AWAY, None)
        if since is not None:
            _warn(f"NATS at {self._hosts} is back after {self._clock() - since:.0f} s")

    def trouble(self, sentence: str) -> None:
        """Note what went wrong on a connection that is there."""
        self._say(sentence, f"NATS at {self._hosts}: {sentence}")

    def _say(self, kind: str, sentence: str) -> None:
        now, said = self._clock(), self._said.get(kind)
        if said is not None and now - said.at < _SPAN:
            said.more += 1
            return
        if len(self._said) >= _KINDS:
            self._said.clear()
        self._said[kind] = _Said(now)
        again = f" (the {said.more + 1}th time in {now - said.at:.0f} s)" if said is not None and said.more else ""
        _warn(f"{sentence}{again}")


def _warn(sentence: str) -> None:
    """Log; a thread that sends has it done aside, and does not wait.

    A handler may be in the hands of a thread that waits for room, which only the thread that sends can make: loguru's
    are. Where the application has no handler, the line goes to standard error, as `logging` would have it, but without
    the lock that the end of the process waits for.
    Under eventlet the line of such a thread goes there always: a thread must not wait for the locks of `logging`.
    """
    if locks_are_for_one_thread() and is_sending(get_ident()):
        say(sentence)
    elif not _log.hasHandlers():
        if _log.isEnabledFor(logging.WARNING):
            say(sentence)
    elif is_sending(get_ident()):
        _aside.do(partial(_warn_for_sender, sentence))
    else:
        _log.warning("%s", sentence)


def _warn_for_sender(sentence: str) -> None:
    with Making():  # as on the thread that sends: our own handlers leave it out
        _log.warning("%s", sentence)
