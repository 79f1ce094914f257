"""An application that forks while it logs: `forking.py URL NAMESPACE WAY`; each process logs as many entries."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading

from transfer import TransferHandler

CHILDREN, ENTRIES = 4, 500
logger = logging.getLogger("shop")


def set_up(url: str, namespace: str) -> None:
    logger.addHandler(TransferHandler("app", url=url, namespace=namespace))
    logger.setLevel(logging.INFO)
    logger.propagate = False


def log(who: int) -> None:
    for number in range(ENTRIES):
        logger.info("entry", extra={"number": who * ENTRIES + number})


def spawned(url: str, namespace: str, who: int) -> None:
    set_up(url, namespace)
    log(who)


def main() -> None:
    url, namespace, way = sys.argv[1:]
    set_up(url, namespace)
    sending = threading.Thread(target=log, args=(0,))
    sending.start()
    if way == "os":
        children = []
        for who in range(1, CHILDREN + 1):
            child = os.fork()
            if not child:
                log(who)
                sys.exit()
            children.append(child)
        for child in children:
            if os.waitpid(child, 0)[1]:
                sys.exit(f"child {child} failed")
    else:
        multiprocessing.set_start_method(way)
        processes = [
            multiprocessing.Process(target=log, args=(who,))
            if way == "fork"
            else multiprocessing.Process(target=spawned, args=(url, namespace, who))
            for who in range(1, CHILDREN + 1)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            sys.exit("a child failed")
    sending.join()


if __name__ == "__main__":
    main()
