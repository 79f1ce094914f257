"""Entries at the very end of a process: `late.py URL NAMESPACE WAY HOW_MANY`."""

from __future__ import annotations

import atexit
import logging
import sys
from typing import Any

url, namespace, way, how_many = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
logger: Any = None


def say_good_bye() -> None:
    """Log, after everything that was registered later has ended."""
    if way in {"no thread", "closed, no thread"}:
        refuse_threads()
    for number in range(how_many):
        logger.warning("late", extra={"number": number})


def refuse_threads() -> None:
    """Be Python 3.12, which starts none at the end."""

    def start_thread(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    sys.modules["transfer.background.thread"].__dict__["start_thread"] = start_thread


atexit.register(say_good_bye)  # before the import: it runs after our own

from transfer import TransferHandler  # noqa: E402 - as above

logger = logging.getLogger("shop")
handler = TransferHandler("app", url=url, namespace=namespace, bundle_entries=1)
logger.addHandler(handler)
if way != "first":
    logger.warning("early")
if way == "closed, no thread":
    handler.close()
if way == "registered later, no thread":
    refuse_threads()
    atexit.register(lambda: logger.warning("later"))
