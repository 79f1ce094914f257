"""A block with a beginning and an end that lasts as long as a logger: a generator would take much more memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Lasting(Generic[_T]):
    """Calls one function at the beginning of a block and another one at its end; the block gets a value."""

    __slots__ = ("_begin", "_end", "_value")

    def __init__(self, begin: Callable[[], object], end: Callable[[], object], value: _T) -> None:
        self._begin = begin
        self._end = end
        self._value = value

    def __enter__(self) -> _T:
        """Begin."""
        self._begin()
        return self._value

    def __exit__(self, *_: object) -> None:
        """End, also after an error."""
        self._end()
