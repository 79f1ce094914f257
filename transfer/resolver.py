"""Names of hosts -> addresses, in daemon threads: whoever ends never waits for a resolver that hangs.

The threads of an event loop's own executor are joined when the loop is closed and when the process ends.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from transfer.forks import in_each_child, look
from transfer.native import original, start_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

AddressInfo = tuple[Any, ...]
"""As `socket.getaddrinfo` returns it: family, type, protocol, canonical name, address."""

_lock = original("_thread", "allocate_lock")()
_under_way: dict[tuple[Any, ...], Future[Sequence[AddressInfo]]] = {}
"""One look-up of a name at a time: whoever asks again meanwhile waits for the same answer, in the same thread."""


async def addresses(host: str, port: int) -> list[tuple[str, int]]:
    """Return where TCP may find a host, best first. Raises OSError."""
    found = await getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found))


async def getaddrinfo(
    host: Any,
    port: Any,
    *,
    family: int = 0,
    type: int = 0,  # noqa: A002 - asyncio's name for it
    proto: int = 0,
    flags: int = 0,
) -> Sequence[AddressInfo]:
    """Be `loop.getaddrinfo`, and be cut at any time."""
    return await asyncio.wrap_future(_looking_up((host, port, family, type, proto, flags)))


def _looking_up(question: tuple[Any, ...]) -> Future[Sequence[AddressInfo]]:
    look()
    with _lock:
        future = _under_way.get(question)
        if future is None:
            future = _under_way[question] = Future()
            future.set_running_or_notify_cancel()  # from now on nobody who is cut can cancel it for the others
        else:
            return future
    try:
        start_thread(lambda: _look_up(question, future), "transfer resolver")
    except RuntimeError:  # the process ends: whoever still sends something does it in its own thread
        _look_up(question, future)
    return future


def _look_up(question: tuple[Any, ...], future: Future[Sequence[AddressInfo]]) -> None:
    try:
        answer = original("socket", "getaddrinfo")(*question)
    except Exception as error:  # noqa: BLE001 - it goes to whoever asked
        _answered(question)
        future.set_exception(error)
    else:
        _answered(question)
        future.set_result(answer)


def _answered(question: tuple[Any, ...]) -> None:
    with _lock:
        _under_way.pop(question, None)


def _in_child() -> None:
    """Forget the threads of the parent: a child of a fork has none of them, and perhaps their lock."""
    global _lock  # noqa: PLW0603 - the parent's may be held for ever
    _lock = original("_thread", "allocate_lock")()
    _under_way.clear()


in_each_child(_in_child)
