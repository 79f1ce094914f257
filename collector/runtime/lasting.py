"""A block with a beginning and an end that lasts as long as a logger: a generator would take much more memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_A = TypeVar("_A")


class Lasting(Generic[_A, _T]):
    """Calls one function at the beginning of a block and another one at its end; the block gets a value.

    Both get the same argument. So all loggers share the two functions, and none needs functions of its own.
    """

    __slots__ = ("_argument", "_begin", "_end", "_value")

    def __init__(self, begin: Callable[[_A], object], end: Callable[[_A], object], argument: _A, value: _T) -> None:
        self._begin = begin
        self._end = end
        self._argument = argument
        self._value = value

    def __enter__(self) -> _T:
        """Begin."""
        self._begin(self._argument)
        return self._value

    def __exit__(self, *_: object) -> None:
        """End, also after an error."""
        self._end(self._argument)
