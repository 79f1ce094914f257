"""Names of hosts -> addresses, in daemon threads, so that the end of a process never waits for a resolver that hangs.

The threads of an event loop's own executor are joined when the loop is closed and when the process ends.
"""

from __future__ import annotations

import _socket
import asyncio
import encodings.idna  # noqa: F401 - see `_before_fork`
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transfer.system.forks import in_each_child, is_to_be_forked, look
from transfer.system.native import is_patched, original, start_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORK_WAITS = 0.5
"""Seconds that forks wait for one look-up, all of them together: the resolver may hang."""
_PATIENCE = 30.0
"""Seconds after which a look-up hangs: those who ask then have another one, and after twice the time one more."""
AddressInfo = tuple[Any, ...]
"""As `socket.getaddrinfo` returns it: family, type, protocol, canonical name, address."""
_Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Sequence[AddressInfo]]"]

_lock = original("_thread", "allocate_lock")()


@dataclass(slots=True)
class _Asked:
    """One question of those who wait: one look-up answers all of them, also those who ask again after being cut."""

    waiting: list[_Waiting] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    """When each look-up began that is under way. There are several only when one hangs."""

    def begins(self, now: float) -> bool:
        """Return whether a look-up begins now."""
        begins = not self.began or now - self.began[-1] > _PATIENCE * 2 ** (len(self.began) - 1)
        if begins:
            self.began.append(now)
        return begins


_under_way: dict[tuple[Any, ...], _Asked] = {}


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
    look()
    question, loop = (host, port, family, type, proto, flags), asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[AddressInfo]] = loop.create_future()
    now = time.monotonic()
    with _lock:
        asked = _under_way.setdefault(question, _Asked())
        asked.waiting.append((loop, answer))
        begins = asked.begins(now)
    if begins:
        _start_looking_up(question, now)
    return await answer


def _start_looking_up(question: tuple[Any, ...], began: float) -> None:
    """Do it in a thread of its own, or here: before a fork of uWSGI, and when the process ends."""
    if is_to_be_forked():
        _look_up(question, began)
        return
    try:
        start_thread(lambda: _look_up(question, began), "transfer resolver")
    except RuntimeError:
        _look_up(question, began)


def _look_up(question: tuple[Any, ...], began: float) -> None:
    found: Sequence[AddressInfo] = ()
    failed: Exception | None = None
    try:
        look_up = _socket.getaddrinfo if is_patched("socket") else socket.getaddrinfo
        found = look_up(*question)
    except Exception as error:  # noqa: BLE001 - it goes to the caller
        failed = error
    for loop, answer in _answered(question, began, failed=failed is not None):
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_tell, answer, found, failed)


def _tell(
    answer: asyncio.Future[Sequence[AddressInfo]], found: Sequence[AddressInfo], failed: Exception | None
) -> None:
    if answer.done():
        return
    if failed is not None:
        answer.set_exception(failed)
    else:
        answer.set_result(found)


def _answered(question: tuple[Any, ...], began: float, *, failed: bool) -> list[_Waiting]:
    """Return those who have their answer; while another look-up of the name is under way, a failure is none."""
    with _lock:
        asked = _under_way.get(question)
        if asked is None or began not in asked.began:  # it was begun before a fork
            return []
        asked.began.remove(began)
        if failed and asked.began:
            return []
        if not asked.began:
            del _under_way[question]
        answered, asked.waiting = asked.waiting, []
        return answered


def _before_fork() -> None:
    """Wait a moment for a look-up that has just begun: a child that is forked meanwhile can look up nothing, for ever.

    It has the C library's locks as they are then. Python's own are as bad, so nothing is imported by a look-up.
    """
    deadline = time.monotonic() + _FORK_WAITS
    while (now := time.monotonic()) < deadline and _has_begun_after(now - _FORK_WAITS):
        original("time", "sleep")(0.001)


def _has_begun_after(moment: float) -> bool:
    """Return whether a look-up is under way that began later. The lock is not taken: a signal handler may fork."""
    return any(began > moment for asked in list(_under_way.values()) for began in list(asked.began))


def _in_child() -> None:
    """Forget the threads of the parent: a child of a fork has none of them, and perhaps their lock."""
    global _lock  # noqa: PLW0603 - the parent's may be held for ever
    _lock = original("_thread", "allocate_lock")()
    _under_way.clear()


in_each_child(_in_child)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
