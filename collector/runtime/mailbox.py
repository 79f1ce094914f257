"""A mailbox between two stages of a logger. A stream of anyio takes many times its memory, and more turns of the loop.

It has two ends. Each of them is closed at the end of an `async with` block.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from anyio import BrokenResourceError, EndOfStream

if TYPE_CHECKING:
    from types import TracebackType

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_T_contra = TypeVar("_T_contra", contravariant=True)


class _End(Protocol):
    async def __aenter__(self) -> Self:
        """Begin the block."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close this end."""


class Sends(_End, Protocol[_T_contra]):
    """The end of a sender."""

    async def send(self, item: _T_contra) -> None:
        """Hand an item over, when the one before it is taken. Raises BrokenResourceError when no receiver is left."""


class Receives(_End, Protocol[_T_co]):
    """The end of the receivers."""

    async def receive(self) -> _T_co:
        """Take an item when there is one. Raises EndOfStream when there is none, and no sender any more."""


class _Mailbox(Generic[_T]):
    """The mailbox itself: one item at most, and the futures of the tasks that wait for an item or for room."""

    __slots__ = ("ended", "items", "left", "receivers", "sender")

    def __init__(self) -> None:
        self.items: list[_T] = []
        self.receivers: list[asyncio.Future[None]] = []
        self.sender: asyncio.Future[None] | None = None
        self.ended = False
        """Whether nobody sends any more."""
        self.left = False
        """Whether nobody receives any more."""

    def wake_receiver(self) -> None:
        while self.receivers:
            receiver = self.receivers.pop(0)
            if not receiver.done():
                receiver.set_result(None)
                return

    def wake_sender(self) -> None:
        if self.sender is not None and not self.sender.done():
            self.sender.set_result(None)


class Outbox(Generic[_T]):
    """See `Sends`. For one task at a time."""

    __slots__ = ("_mailbox",)

    def __init__(self, mailbox: _Mailbox[_T]) -> None:
        self._mailbox = mailbox

    async def send(self, item: _T) -> None:
        """See `Sends`."""
        mailbox = self._mailbox
        while mailbox.items and not mailbox.left:
            mailbox.sender = asyncio.get_running_loop().create_future()
            await mailbox.sender
        if mailbox.left:
            raise BrokenResourceError
        mailbox.items.append(item)
        mailbox.wake_receiver()

    def close(self) -> None:
        """Send nothing any more."""
        self._mailbox.ended = True
        while self._mailbox.receivers:
            self._mailbox.wake_receiver()

    async def __aenter__(self) -> Self:
        """Begin the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close this end."""
        self.close()


class Inbox(Generic[_T]):
    """See `Receives`. Any number of tasks may wait at it."""

    __slots__ = ("_mailbox",)

    def __init__(self, mailbox: _Mailbox[_T]) -> None:
        self._mailbox = mailbox

    async def receive(self) -> _T:
        """See `Receives`."""
        mailbox = self._mailbox
        while not mailbox.items:
            if mailbox.ended:
                raise EndOfStream
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            mailbox.receivers.append(waiting)
            try:
                await waiting
            except BaseException:
                if mailbox.items:  # this task may be the one that was woken for it
                    mailbox.wake_receiver()
                raise
        item = mailbox.items.pop()
        mailbox.wake_sender()
        return item

    async def __aenter__(self) -> Self:
        """Begin the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close this end."""
        self._mailbox.left = True
        self._mailbox.wake_sender()


def mailbox_of(kind: type[_T]) -> tuple[Outbox[_T], Inbox[_T]]:
    """Return both ends of a mailbox for items of one kind."""
    del kind
    mailbox: _Mailbox[_T] = _Mailbox()
    return Outbox(mailbox), Inbox(mailbox)
