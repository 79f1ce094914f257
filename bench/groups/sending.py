"""Handing entries over in the background: entries a second until all are taken, and CPU time in the caller's thread.

Ours count when JetStream has stored them. What is beside them does less: the standard library's queue hands records to
a thread that throws them away, and fluent-logger writes to a socket whose other end reads and answers nothing.
Both handlers of `logging` also take turns in one thread, so that both meet the same machine: a core that has to share
its caches with a sending thread, or with servers, is slower for either.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

from fluent.asyncsender import FluentSender  # type: ignore[import-untyped]

from bench import declaring
from bench.entries import entry_data
from bench.errors import NotAsExpected
from transfer import BlockingTransfer, TransferHandler
from transfer.jetstream.connection import CONNECT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.stand import Space, Stand

    Hand = Callable[[int], object]
    """Hands over the entry of a number."""
    Way = Callable[[Stand, Space], AbstractContextManager[Hand]]
    """When the block ends, everything is taken."""

NAME = "sending"
HANDLER = "logging, TransferHandler"
QUEUE_HANDLER = "logging, QueueHandler"
_IN_THE_CALLER = "µs in the caller"
_KEY = "published"
_DATA = [entry_data(300, number) for number in range(100)]
_METADATA = {"host": "web-1"}
_PATIENCE = 60.0
_TURN = 100
"""Entries that one of two handlers gets before it is the other's turn."""
_IMPORTS = (
    "import transfer",
    "from transfer import TransferHandler",
    "from logging.handlers import QueueHandler",
    "from fluent.asyncsender import FluentSender",
)


def measure(stand: Stand) -> None:
    """Measure each way in each round."""
    for _ in stand.rounds():
        for what, way in _WAYS.items():
            stand.progress.doing(what)
            with stand.space() as space:
                declaring.make_streams(stand.nats, space, [_KEY])
                stand.figures.add(NAME, what, _measure(way(stand, space), stand.plan.sent))
        stand.progress.doing("both handlers in turns")
        with stand.space() as space:
            declaring.make_streams(stand.nats, space, [_KEY])
            with _handler(stand, space) as ours, _queue_handler(stand, space) as theirs:
                stand.figures.add(NAME, HANDLER, {"of QueueHandler": _compared(ours, theirs, stand.plan.sent)})
        for statement in _IMPORTS:
            stand.progress.doing(statement)
            stand.figures.add(NAME, statement, {"import ms": _seconds(statement) * 1000})


def _compared(ours: Hand, theirs: Hand, entries: int) -> float:
    """Return the CPU time of the caller's thread as a part of that of another way, which takes turns with the first."""
    turns = [(_in_the_caller(ours), _in_the_caller(theirs)) for _ in range(entries // _TURN)]
    return median(mine / other for mine, other in turns)


def _in_the_caller(hand: Hand) -> int:
    started = time.thread_time_ns()
    for number in range(_TURN):
        hand(number)
    return time.thread_time_ns() - started


def _seconds(statement: str) -> float:
    """Return how long it takes in a new interpreter."""
    program = f"import time; started = time.perf_counter(); {statement}; print(time.perf_counter() - started)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return float(done.stdout)


def _measure(way: AbstractContextManager[Hand], entries: int) -> dict[str, float]:
    with way as hand:
        started, cpu = time.perf_counter(), time.thread_time()
        for number in range(entries):
            hand(number)
        cpu = time.thread_time() - cpu
    seconds = time.perf_counter() - started
    return {"entries/s": entries / seconds, _IN_THE_CALLER: cpu * 1e6 / entries}


@contextmanager
def _send(stand: Stand, space: Space) -> Iterator[Hand]:
    """Wait for room as a program does that would rather wait than lose: nothing is dropped."""
    namespace = space.names.namespace
    with BlockingTransfer.connect(stand.nats.url, namespace=namespace, overflow="block") as transfer:
        yield lambda number: transfer.send(_KEY, _DATA[number % 100], metadata=_METADATA)
        if not transfer.flush(_PATIENCE):
            raise NotAsExpected(f"expected all to be confirmed within {_PATIENCE:.0f} s, got {transfer.stats()}")


@contextmanager
def _handler(stand: Stand, space: Space) -> Iterator[Hand]:
    handler = TransferHandler(_KEY, url=stand.nats.url, namespace=space.names.namespace, overflow="block")
    with _logging_to(handler) as log:
        yield log
        if not handler.wait(_PATIENCE):
            raise NotAsExpected(f"expected all to be confirmed within {_PATIENCE:.0f} s, got {handler.stats()}")


@contextmanager
def _queue_handler(_stand: Stand, _space: Space) -> Iterator[Hand]:
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, logging.NullHandler())
    listener.start()
    with _logging_to(logging.handlers.QueueHandler(records)) as log:
        yield log
        listener.stop()


@contextmanager
def _logging_to(handler: logging.Handler) -> Iterator[Hand]:
    logger = logging.getLogger(type(handler).__name__)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    yield lambda number: logger.info("%s orders", "GET", extra=_DATA[number % 100])
    logger.removeHandler(handler)
    handler.close()


@contextmanager
def _fluent(_stand: Stand, _space: Space) -> Iterator[Hand]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Sink) as sink:
        serving = threading.Thread(target=sink.serve_forever)
        serving.start()
        sender = FluentSender("bench", port=sink.server_address[1], queue_maxsize=10_000, timeout=_PATIENCE)
        yield lambda number: sender.emit(_KEY, _DATA[number % 100])
        sender.close()
        sink.shutdown()
        serving.join(CONNECT_TIMEOUT)


class _Sink(socketserver.BaseRequestHandler):
    """Reads everything."""

    def handle(self) -> None:
        """Read until the end."""
        while self.request.recv(1 << 16):
            pass


_WAYS: dict[str, Way] = {
    "transfer send": _send,
    HANDLER: _handler,
    QUEUE_HANDLER: _queue_handler,
    "fluent-logger": _fluent,
}
