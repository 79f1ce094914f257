"""An application that forks behind Python's back, as programs in C do: `raw_fork.py URL NAMESPACE`."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
import time

from transfer import TransferHandler
from transfer.entries.entry import new_id

CHILDREN, ENTRIES = 4, 100
logger = logging.getLogger("shop")


def log(who: int) -> None:
    """Log from several threads at once: all of them are the first in this process."""
    together = threading.Barrier(2)

    def work(start: int) -> None:
        together.wait()
        for number in range(start, start + ENTRIES // 2):
            logger.info("entry", extra={"number": who * ENTRIES + number})

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, ENTRIES // 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    url, namespace = sys.argv[1:]
    handler = TransferHandler("app", url=url, namespace=namespace)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    log(0)
    if not handler.wait(20):
        sys.exit("the parent's own entries are not confirmed")
    time.sleep(0.3)  # a thread that wants the interpreter's lock just at such a fork hangs Python itself in the child
    fork = ctypes.PyDLL(None).fork
    children = []
    for who in range(1, CHILDREN + 1):
        child = fork()
        if not child:
            sys.stdout.write(f"{new_id()[4:9].hex()}\n")
            log(who)
            sys.exit()
        children.append(child)
    for child in children:
        if os.waitpid(child, 0)[1]:
            sys.exit(f"child {child} failed")
    sys.stdout.write(f"{new_id()[4:9].hex()}\n")


main()
