"""Commands that need NATS: they run on a connection of their own, and an unknown logger gets suggestions."""

from __future__ import annotations

import asyncio
from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING

from transfer.errors import TransferError, UnknownLogger, UnreadableSpec

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Coroutine

    from transfer.client import Transfer

    _Connected = Callable[[Transfer, argparse.Namespace], Coroutine[object, object, int]]


def connected(command: _Connected) -> Callable[[argparse.Namespace], int]:
    """Return the command as a function of the options alone."""

    @wraps(command)
    def run(options: argparse.Namespace) -> int:
        return asyncio.run(_run(command, options))

    return run


async def _run(command: _Connected, options: argparse.Namespace) -> int:
    from transfer.client import Transfer  # noqa: PLC0415 - `--help` need not wait for nats-py

    async with Transfer.connect() as transfer:
        try:
            return await command(transfer, options)
        except UnknownLogger as error:
            if alike := await _alike(transfer, error.key):
                error.add_note(f"did you mean {alike}?")
            raise


async def _alike(transfer: Transfer, key: str) -> str:
    """Return the loggers whose keys are like this one, or that there are none at all."""
    try:
        keys = [one.key if isinstance(one, UnreadableSpec) else one.logger.key for one in await transfer.list()]
    except TransferError:  # a publisher may not list; the first error says enough
        return ""
    return " or ".join(repr(one) for one in get_close_matches(key, keys, n=3))
