"""The event loop of the service: one that never waits for the resolver when it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from transfer.system.resolver import getaddrinfo

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Resolving:
    """Looks host names up in daemon threads: the process does not wait for them at its end, as for those of asyncio."""

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Sequence[tuple[Any, ...]]:
        """See `asyncio.loop.getaddrinfo`; pymongo looks names up with it."""
        return await getaddrinfo(host, port, **options)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make a loop of uvloop where it is installed, which is not on every platform, else of asyncio."""
    try:
        import uvloop  # noqa: PLC0415 - it may not be installed
    except ImportError:
        kind: type[Any] = asyncio.SelectorEventLoop
    else:
        kind = uvloop.Loop
    loop: asyncio.AbstractEventLoop = type("ResolvingLoop", (_Resolving, kind), {})()
    return loop
