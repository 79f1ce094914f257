"""Greenlets that wait for the client in all its ways, while another one has to run: `greenlets.py LIBRARY`."""

from __future__ import annotations

import sys

LIBRARY = sys.argv[1]
if LIBRARY == "gevent":
    from gevent import monkey

    monkey.patch_all()
else:
    import eventlet

    eventlet.monkey_patch()

import asyncio  # noqa: E402 - all of these are patched
import logging  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

from transfer import BlockingTransfer, TransferHandler  # noqa: E402

GREENLETS, ENTRIES = 20, 100
A_TURN = 0.1
"""Seconds: a wait that is over sooner had nothing to wait for."""
running: list[int] = []
faults: list[str] = []


def run_all_the_time() -> None:
    """Count turns: whoever stops the thread of all greenlets stops this."""
    while True:
        running.append(1)
        time.sleep(0.001)


def log(handler: TransferHandler) -> None:
    """Log more than there is room for."""
    for number in range(ENTRIES):
        handler.handle(logging.makeLogRecord({"name": "shop", "msg": "entry", "number": number}))
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            continue
        faults.append("an event loop is running where the application is")


def turns_during(name: str, wait: object) -> None:
    """Note a fault when nobody else had a turn meanwhile."""
    before, began = len(running), time.monotonic()
    if not callable(wait) or not wait():
        faults.append(f"{name} was in vain")
    took = time.monotonic() - began
    if len(running) == before and took > A_TURN:
        faults.append(f"nobody ran during the {took:.3f} s of {name}")


def main() -> None:
    threading.Thread(target=run_all_the_time, daemon=True).start()
    handler = TransferHandler("app", overflow="block", max_entries=50)
    logging_ones = [threading.Thread(target=log, args=(handler,)) for _ in range(GREENLETS)]
    for one in logging_ones:
        one.start()
    for one in logging_ones:
        one.join()
    turns_during("wait", lambda: handler.wait(20))
    with BlockingTransfer.connect() as transfer:
        turns_during("get", lambda: transfer.get("app"))
        turns_during("publish", lambda: transfer.publish("app", {"number": 0}))
        transfer.send("app", {"number": 1})
        turns_during("flush", lambda: transfer.flush(20))
    if handler.stats().published != GREENLETS * ENTRIES:
        faults.append(f"of {GREENLETS * ENTRIES} entries {handler.stats()}")
    sys.exit("\n".join(faults) or 0)


main()
