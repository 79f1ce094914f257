"""How the commands of the benchmark end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from types import FrameType


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End after a signal as a failed command does, so that every block on the way out stops its servers."""
    sys.exit(128 + number)


def fail(words: str) -> NoReturn:
    """Say why, and end with 1."""
    click.echo(words, err=True)
    sys.exit(1)
