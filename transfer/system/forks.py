"""Objects that begin anew in a child of a fork, also of a fork without Python's knowledge, as by uWSGI and others in C.

Code that takes an entry calls `look` first. No lock of the parent's is touched: one may be held for ever.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from transfer.system.native import original

if TYPE_CHECKING:
    from collections.abc import Callable

_actions: list[Callable[[], None]] = []
_locks: dict[int, Any] = {}
"""One of each process, made in it."""
_process = os.getpid()
_is_child = False
_WIPE_ON_FORK = 18
"""MADV_WIPEONFORK of Linux, which Python has no name for."""


def in_each_child(action: Callable[[], None]) -> None:
    """Have something done once in each child, before anything else of this package."""
    _actions.append(action)


def is_child() -> bool:
    """Return whether this process was forked from one that had this package."""
    return _is_child


def is_to_be_forked() -> bool:
    """Return whether this is the process of uWSGI that forks its workers, before it has.

    It does not tell Python: a thread that is there then may leave the interpreter's lock in a state in which the
    workers stand still.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None or _is_child:
        return False
    with suppress(Exception):  # something else of that name
        return bool(uwsgi.worker_id() == 0 and uwsgi.mule_id() == 0 and not uwsgi.i_am_the_spooler())
    return False


def _new_mark() -> mmap.mmap | None:
    """Return a page of memory whose first byte is 1, and 0 in each child; None where the system has none."""
    if sys.platform != "linux":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError):  # before Linux 4.14
        return None
    page[0] = 1
    return page


_page = _new_mark()
_mark: mmap.mmap | bytearray = bytearray(b"\1") if _page is None else _page


def look() -> None:
    """Begin anew when this process is another than a moment ago. The page tells without a system call."""
    if not _mark[0] or (_page is None and os.getpid() != _process):
        _begin()


def _begin() -> None:
    global _process, _is_child  # noqa: PLW0603 - of this process
    process = os.getpid()
    with _locks.setdefault(process, original("_thread", "RLock")()):  # other threads wait until it is done
        if not _mark[0] or process != _process:
            _is_child = True
            for action in _actions:
                action()
            _process = process
            _mark[0] = 1


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin)
