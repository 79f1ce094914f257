"""The reasons for which entries are dropped, what each error means for them, and the lines that say so."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from transfer.errors import Conflict, InvalidEntry, JetStreamError, TransferError, UnknownLogger
from transfer.system.stderr import say

if TYPE_CHECKING:
    from collections import Counter


class Dropped(StrEnum):
    """Why an entry was not sent, or not confirmed: a closed list."""

    OVERFLOW = "overflow"
    INVALID_KEY = "invalid_key"
    TOO_LARGE = "too_large"
    """For a message of this NATS, or for the queue."""
    UNKNOWN_LOGGER = "unknown_logger"
    REFUSED = "refused"
    """By JetStream, for good."""
    CLOSED = "closed"
    """Sent after the end, or still unconfirmed at it."""


_WHY = {
    Dropped.OVERFLOW: "the queue is full, of logger {key!r} an entry is the first that is missing",
    Dropped.INVALID_KEY: "{key!r} cannot name a logger",
    Dropped.TOO_LARGE: "an entry of logger {key!r} is larger than a message, or the queue, may be",
    Dropped.UNKNOWN_LOGGER: "logger {key!r} is not declared, `transfer set {key}` does it",
    Dropped.REFUSED: "JetStream does not take the entries of logger {key!r}",
    Dropped.CLOSED: "an entry of logger {key!r} came after the end",
}
_SELF_EVIDENT = {Dropped.INVALID_KEY, Dropped.UNKNOWN_LOGGER}


def reason_of(error: Exception) -> Dropped | None:
    """Return why an error is the end of a message, or None when JetStream may take the message later."""
    match error:
        case UnknownLogger():
            return Dropped.UNKNOWN_LOGGER
        case InvalidEntry() | JetStreamError(err_code=10054):  # larger than the stream takes
            return Dropped.TOO_LARGE
        case Conflict():
            return Dropped.REFUSED
    return None


def sentence_of(error: Exception) -> str:
    """Return an error as people read it."""
    return str(error) if isinstance(error, TransferError) else f"{type(error).__name__}: {error}"


class Counted(Protocol):
    """The outbox, as far as its drops go."""

    dropped: Counter[Dropped]
    first_drops: list[tuple[Dropped, str]]


class DropReport:
    """Says on standard error which entries were dropped: each reason once, and all counts at the end."""

    def __init__(self, outbox: Counted, where: str) -> None:
        self._outbox = outbox
        self._where = where
        self._said: dict[Dropped, int] = {}
        """The counts as they were said at an end."""

    def begin_anew(self) -> None:
        """Forget the parent's counts, in a child of a fork."""
        self._said = {}

    def say_new(self, last_error: str) -> None:
        """Say the reasons that have occurred for the first time."""
        drops = self._outbox.first_drops
        while drops:
            with suppress(IndexError):  # another thread says it
                why, key = drops.pop(0)
                reason = f"{_WHY[why].format(key=key)} ({self._where})"
                error = f": {last_error}" if last_error and why not in _SELF_EVIDENT else ""
                say(f"transfer: entries are dropped, {why.value}: {reason}{error}; from now on they are only counted")

    def say_end(self, left: int, last_error: str) -> None:
        """Say the counts at an end, unless they are as they were at an end before."""
        dropped = dict(self._outbox.dropped)
        self._outbox.first_drops[:] = [drop for drop in self._outbox.first_drops if drop[0] is not Dropped.CLOSED]
        self.say_new(last_error)
        if dropped == self._said:
            return
        self._said = dropped
        counts = ", ".join(f"{count} {why.value}" for why, count in dropped.items())
        error = f"{last_error or 'no time left'} ({self._where})"
        if left:
            says = f"{left} entries were not confirmed in time and are dropped: {error}"
            says += f"; dropped in all: {counts}" if len(dropped) > 1 else ""
        else:
            says = f"dropped in all: {counts}; the last error was: {error}"
        say(f"transfer: {says}")
