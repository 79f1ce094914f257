"""An application that logs from threads and ends in the middle of it: `ending.py URL NAMESPACE RUN`."""

from __future__ import annotations

import logging
import random
import sys
import threading
import time

from transfer import TransferHandler


def main() -> None:
    url, namespace, run = sys.argv[1], sys.argv[2], int(sys.argv[3])
    chance = random.Random(run)  # noqa: S311 - the same run from the same number
    logger = logging.getLogger("shop")
    logger.addHandler(TransferHandler("app", url=url, namespace=namespace))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    sent = [0] * chance.randint(1, 3)
    lock, stop = threading.Lock(), threading.Event()

    def log(thread: int, records: int) -> None:
        for number in range(records):
            with lock:
                if stop.is_set():
                    return
                logger.info("entry", extra={"run": run, "number": 1_000_000 * thread + number})
                sent[thread] += 1

    threads = [
        threading.Thread(target=log, args=(number, chance.randint(0, 2000)), daemon=True) for number in range(len(sent))
    ]
    for thread in threads:
        thread.start()
    time.sleep(chance.choice((0.0, chance.uniform(0, 0.05), chance.uniform(0, 0.3))))
    with lock:
        stop.set()
        sys.stdout.write(f"{sum(sent)}\n")
        sys.stdout.flush()
    match run % 4:
        case 0:
            sys.exit(3)
        case 1:
            raise SystemError("the application has crashed")
        case 2:
            logging.shutdown()


main()
