"""Whether an entry is being made just now by this thread, greenlet or task: its further records are left out meanwhile.

An application's own functions are called while an entry is made: `context`, filters, `__repr__` and more. Their records
would be further entries, for which they are called again.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

SENDING: set[int] = set()
"""The numbers of the threads that send just now, as `threading` and as the operating system have them."""


class Making:
    """`with Making():` says that an entry is being made in the block."""

    __slots__ = ("_token", "goes_on")
    _token: Token[Making | None]

    def __enter__(self) -> None:
        self.goes_on = True
        self._token = MAKING.set(self)

    def __exit__(self, *_: object) -> None:
        self.goes_on = False  # for tasks that were begun meanwhile: they have inherited this
        MAKING.reset(self._token)


MAKING: ContextVar[Making | None] = ContextVar("transfer_making", default=None)


def is_making() -> bool:
    """Return whether the caller is making an entry."""
    making = MAKING.get()
    return making is not None and making.goes_on


def in_child() -> None:
    """Forget the threads of the parent: others may get their numbers."""
    SENDING.clear()


def is_sending(ident: object) -> bool:
    """Return whether a thread of this process, by the number that `threading` has for it, is one that sends."""
    return ident in SENDING
