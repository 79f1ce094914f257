"""What tests of the whole service wait for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import Replica


def state(replica: Replica, key: str) -> str:
    """Return the state of a logger, or `none`."""
    return str(replica.status["loggers"].get(key, {}).get("state", "none"))


async def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for what another process does; return how long it took, fail when it takes too long."""
    started = time.monotonic()
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - nobody in this process could set an event
            await anyio.sleep(0.01)
    return time.monotonic() - started
