"""`collector` with two switches that only chaos has: a signal that blocks its event loop, one that stops it in a write.

SIGUSR1: the main thread sleeps for CHAOS_BLOCK seconds. SIGUSR2: the process stops itself (SIGSTOP) the next time that
it is about to send an insert into the collection that the file CHAOS_ARMED names: between its last look at anything
and the sending.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo.asynchronous.pool import AsyncConnection

from collector.cli import main

if TYPE_CHECKING:
    from types import FrameType

_send = AsyncConnection.command
_armed = ""


def _block(signum: int, frame: FrameType | None) -> None:
    time.sleep(float(os.environ["CHAOS_BLOCK"]))


def _arm(signum: int, frame: FrameType | None) -> None:
    global _armed  # noqa: PLW0603 - a signal handler has nothing else to tell its process
    _armed = Path(os.environ["CHAOS_ARMED"]).read_text()


async def _stop_then_send(self: AsyncConnection, dbname: str, spec: Any, *args: Any, **kwargs: Any) -> Any:
    global _armed  # noqa: PLW0603 - see _arm
    if _armed and spec.get("insert") == _armed:
        _armed = ""
        os.kill(os.getpid(), signal.SIGSTOP)
    return await _send(self, dbname, spec, *args, **kwargs)


if __name__ == "__main__":
    AsyncConnection.command = _stop_then_send  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, _block)
    signal.signal(signal.SIGUSR2, _arm)
    main()
