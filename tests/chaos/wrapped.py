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
from collector.mongodb.lanes import Lane

if TYPE_CHECKING:
    from types import FrameType

_send = AsyncConnection.command
_ask = Lane.ask
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


async def _stop_then_ask(self: Lane, message: bytes, timeout: float) -> bytes:
    global _armed  # noqa: PLW0603 - see _arm
    if _armed and b"insert\0" + (len(_armed) + 1).to_bytes(4, "little") + _armed.encode() + b"\0" in message[:512]:
        _armed = ""
        os.kill(os.getpid(), signal.SIGSTOP)
    return await _ask(self, message, timeout)


if __name__ == "__main__":
    Lane.ask = _stop_then_ask  # type: ignore[method-assign]
    AsyncConnection.command = _stop_then_send  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, _block)
    signal.signal(signal.SIGUSR2, _arm)
    main()
