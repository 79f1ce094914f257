"""An application of uWSGI whose spooler logs: each request spools a task, which logs as many entries as it says."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import uwsgi

from transfer import TransferHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logging.basicConfig(level=logging.INFO, handlers=[TransferHandler("app")])
logger = logging.getLogger("shop")
logger.info("loaded", extra={"number": "loaded"})


def work(task: dict[bytes, bytes]) -> int:
    """Log in the spooler, and say in the last entry how long that took."""
    entries = int(task[b"entries"])
    began = time.monotonic()
    for number in range(entries):
        logger.info("worked", extra={"number": number})
    logger.info("done", extra={"number": "done", "took": time.monotonic() - began})
    return int(uwsgi.SPOOL_OK)


uwsgi.spooler = work


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Spool a task for `/spool/ENTRIES`; any other path is only answered."""
    _, path, *entries = environ["PATH_INFO"].split("/")
    if path == "spool":
        uwsgi.spool({b"entries": entries[0].encode()})
    start_response("200 OK", [])
    return [b"spooled"]
