"""Texts of the command line -> values. Raises `ArgumentTypeError`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeVar

from transfer.errors import InvalidKey
from transfer.names import check_key

if TYPE_CHECKING:
    from collections.abc import Callable

_Number = TypeVar("_Number", int, float)


def key(text: str) -> str:
    """Return the key of a logger."""
    try:
        return check_key(text)
    except InvalidKey as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def duration(text: str) -> float:
    """Return seconds."""
    from transfer.environment import parse_duration  # noqa: PLC0415 - see `connected`

    return _positive(parse_duration, text)


def seconds(text: str) -> int:
    """Return whole seconds, one at least."""
    return max(1, round(duration(text)))


def size(text: str) -> int:
    """Return bytes."""
    from transfer.environment import parse_size  # noqa: PLC0415 - see `connected`

    return _positive(parse_size, text)


def column(text: str) -> tuple[str, str]:
    """Return the path and the type of a column."""
    path, equals, kind = text.rpartition("=")
    if not (path and equals and kind):
        raise argparse.ArgumentTypeError(f"expected a path and a type like user.id=int64, got {text}")
    return path, kind


def _positive(parse: Callable[[str], _Number], text: str) -> _Number:
    try:
        value = parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected more than nothing, got {text}")
    return value
