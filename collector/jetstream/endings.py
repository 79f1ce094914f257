"""How the requests of a pull ended: fulfilled, at their time, before a large message, or early for nothing. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.jetstream.messages import PullStatus

if TYPE_CHECKING:
    from collector.jetstream.outstanding import Asked

LARGEST = 64 * 1024 * 1024 + 64 * 1024
"""Bytes of the largest message that is asked for, with subject and headers: nats-server lets no more bytes wait for one
client (`max_pending`)."""


class Endings:
    """The endings of one pull's requests, as far as the next request depends on them."""

    __slots__ = ("_counted", "_last_size", "fruitless", "last_words", "too_small")

    def __init__(self) -> None:
        self.too_small = 0
        """Bytes of the last request if the next message is larger, else 0: then that message is asked for alone."""
        self.fruitless = 0
        """How often in a row the server has ended the requests early without a message."""
        self.last_words = ""
        """The server's status line when it last ended a request without fulfilling it."""
        self._counted = 0
        """Requests up to this number are counted in `fruitless`: one event may end several requests."""
        self._last_size = 0
        """Bytes of the last message that was asked for alone."""

    @property
    def alone_bytes(self) -> int:
        """Bytes to ask for when the next message is too large: a quarter more than the last such one, or twice as much.

        The server does not tell the size beforehand, and `max_payload` may have been another one at the publishing.
        """
        like_the_last = self._last_size * 5 // 4
        return min(LARGEST, like_the_last if self.too_small < like_the_last else 2 * self.too_small)

    def came(self, size: int, newest: int) -> None:
        """Note that messages came; `newest` is the number of the newest request."""
        if self.too_small:
            self.too_small, self._last_size = 0, size
        self.fruitless = 0
        self._counted = newest

    def is_refusal(self, status: PullStatus, asked: Asked, rest: tuple[int, int], now: float) -> bool:
        """Note how a request ended; return whether that was early and without a message."""
        if status is PullStatus.MESSAGE_TOO_LARGE:
            if rest != asked[:2]:
                return False  # the messages that fit have come
            grew, self.too_small = asked.bytes > self.too_small, asked.bytes
            return not (grew and asked.bytes < LARGEST)  # else the next one is larger, which is progress
        if status is PullStatus.REQUEST_EXPIRED and now >= asked.early:
            self.too_small = self.fruitless = 0
            return False
        return True

    def refused(self, asked: Asked, words: str, newest: int) -> bool:
        """Count an early end, once for all requests that were outstanding; tell whether it is one of two in a row."""
        if asked.number <= self._counted:
            return False
        self._counted, self.last_words = newest, words
        self.fruitless += 1
        return self.fruitless > 1
