"""An application that logs as fast as it can: `caller.py URL NAMESPACE WAY RECORDS` says how long calls held it up.

Beside each call one is made to the standard library's `QueueHandler`, so that both meet the same machine, which has
other work: p99.9 is that of the best quarter of the calls.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import queue
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from transfer import TransferHandler
from transfer.background.sender import Sender
from transfer.options import read_options

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = {"msg": "GET /users/42", "status": 200, "path": "/users/42", "seconds": 0.0123, "request": "4f1c9a"}


def peak() -> int:
    """Return the most bytes of memory that this program took; `ru_maxrss` is that of whoever started it, if larger."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ["VmHWM: 0 kB"]
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def timed(call: Callable[[], None]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def figures(held: list[float]) -> dict[str, float]:
    """Return what is said of calls."""
    size = len(held) // 4
    quarters = [sorted(held[part * size : (part + 1) * size]) for part in range(4)]
    return {
        "median": sorted(held)[len(held) // 2],
        "p99.9": min(quarter[int(size * 0.999)] for quarter in quarters),
        "max": max(held),
    }


def call_of_a_queue() -> Callable[[], None]:
    """Return the call that is compared with: the standard library puts a record into a queue."""
    standard = logging.getLogger("standard")
    standard.propagate = False
    standard.addHandler(logging.handlers.QueueHandler(queue.SimpleQueue()))
    standard.setLevel(logging.INFO)

    def log_to_a_queue() -> None:
        standard.info("GET %s", "/users/42", extra={"status": 200, "seconds": 0.0123, "request": "4f1c9a"})

    return log_to_a_queue


def main() -> None:
    url, namespace, way, records = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    handler = TransferHandler("app", url=url, namespace=namespace)
    sender = Sender(*read_options(url, namespace))
    logger = logging.getLogger("shop")
    logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def send() -> None:
        sender.send("app", DATA)

    def log() -> None:
        logger.info("GET %s", "/users/42", extra={"status": 200, "seconds": 0.0123, "request": "4f1c9a"})

    call, to_a_queue = send if way == "send" else log, call_of_a_queue()
    held: list[float] = []
    baseline: list[float] = []
    for _ in range(records):
        held.append(timed(call))
        baseline.append(timed(to_a_queue))
    stats = sender.stats() if way == "send" else handler.stats()
    print(  # noqa: T201 - what the test reads
        json.dumps(
            {
                **figures(held),
                "baseline": figures(baseline),
                "queued": stats.queued,
                "queued_bytes": stats.queued_bytes,
                "published": stats.published,
                "dropped": stats.dropped,
                "peak": peak(),
            }
        )
    )


main()
