"""The event loop of the service: it never waits for the resolver when it ends, and rings no timer before its time."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import TYPE_CHECKING, Any

from transfer.system.resolver import getaddrinfo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MILLISECONDS = 1000


class _Resolving:
    """Looks host names up in daemon threads: the process does not wait for them at its end, as for those of asyncio."""

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Sequence[tuple[Any, ...]]:
        """See `asyncio.loop.getaddrinfo`; pymongo looks names up with it."""
        return await getaddrinfo(host, port, **options)


class _Punctual:
    """Rounds the time of a timer up to milliseconds, which uvloop rounds to the nearest.

    anyio sets a deadline that is not reached yet again. So each second deadline was a timer of 0 ms that rang at every
    turn of the loop until the millisecond was over: a replica at rest did little else.
    """

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        """See `asyncio.loop.call_later`. `call_at` of uvloop calls it."""
        rounded = ceil(delay * _MILLISECONDS) / _MILLISECONDS if 0 < delay < _LONG else delay
        return super().call_later(rounded, callback, *args, context=context)  # type: ignore[misc]


_LONG = 3600.0
"""Seconds of a timer for which a millisecond does not matter."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop where it is installed, which is not on every platform, else of asyncio."""
    try:
        import uvloop  # noqa: PLC0415 - it may not be installed
    except ImportError:
        kinds: tuple[type[Any], ...] = (_Resolving, asyncio.SelectorEventLoop)
    else:
        kinds = (_Resolving, _Punctual, uvloop.Loop)
    loop: asyncio.AbstractEventLoop = type("ServiceLoop", kinds, {})()
    return loop
