"""What is logged while an entry is made, by whoever is called for it, is left out: no recursion, one entry of one."""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import product
from typing import TYPE_CHECKING, Any

import loguru
import pytest
import structlog
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from transfer import BlockingTransfer, Logger
from transfer.bridges.loguru import TransferSink
from transfer.bridges.opentelemetry import TransferExporter
from transfer.bridges.structlog import TransferProcessor
from transfer.handler import TransferHandler
from transfer.jetstream.connection import pause
from transfer.system.inside import Making, is_making

if TYPE_CHECKING:
    from collector.local import NatsServer
    from transfer.background.source import Emitter

NOWHERE: Any = {"url": "nats://127.0.0.1:1", "namespace": "beta"}
LEVELS = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL]
LOGGERS = [logging.getLogger(name) for name in ("shop", "py.warnings")]


class Scene:
    """All faces at once, at every level."""

    def __init__(self, stack: ExitStack) -> None:
        self.context: Callable[[], Mapping[str, object]] = dict
        self.handler = TransferHandler("a", level=logging.NOTSET, context=self._context, **NOWHERE)
        self.processor = TransferProcessor("a", **NOWHERE)
        self.sink = TransferSink("a", **NOWHERE)
        self.exporter = TransferExporter("a", **NOWHERE)
        self.sources: tuple[Emitter, ...] = (self.handler, self.processor, self.sink, self.exporter)
        for source in self.sources:
            stack.callback(source._sender.close, 0)
        self._stack = stack
        self._set_up_others()

    def _context(self) -> Mapping[str, object]:
        return self.context()

    def begin(self) -> None:
        """Have the handler alone on the loggers, in the test itself: before it, pytest adds its own."""
        for logger in LOGGERS:  # not the root: pytest's own handlers are on it, which would ask each value in turn
            logger.handlers[:], logger.propagate = [self.handler], False
            logger.setLevel(1)
            self._stack.callback(setattr, logger, "propagate", True)
            self._stack.callback(logger.setLevel, logging.NOTSET)
            self._stack.callback(logger.handlers.clear)
        logging.captureWarnings(capture=True)
        self._stack.callback(logging.captureWarnings, capture=False)

    def _set_up_others(self) -> None:
        loguru.logger.remove()
        loguru.logger.add(self.sink, format="{message}", level=0, catch=False)
        self._stack.callback(loguru.logger.remove)
        structlog.configure(processors=[self.processor])
        self._stack.callback(structlog.reset_defaults)
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))
        self._telemetry = provider.get_logger("shop")

    def log(self, face: str, level: int, value: object) -> None:
        """Log a value through one of the faces."""
        match face:
            case "logging":
                logging.getLogger("shop").log(level, "order %s", value, extra={"value": value})
            case "structlog":
                structlog.get_logger().log(level, "order", value=value)
            case "loguru":
                loguru.logger.bind(value=value).log(logging.getLevelName(level), "order")
            case "opentelemetry":
                self._telemetry.emit(severity_number=SeverityNumber.WARN, body="order")

    def queued(self) -> dict[str, int]:
        """Return how many entries each has queued."""
        return {type(source).__name__: source.stats().queued for source in self.sources}


FACES = ["logging", "structlog", "loguru", "opentelemetry"]
OWN = dict(zip(FACES, ["TransferHandler", "TransferProcessor", "TransferSink", "TransferExporter"], strict=True))


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack)


class Chatty:
    """An object that logs, through everything, whenever it is asked what it is."""

    def __init__(self, scene: Scene, level: int) -> None:
        self._scene = scene
        self._level = level
        self.asked = 0

    def __repr__(self) -> str:
        self.asked += 1
        if self.asked > 20:  # or a test that fails has no end
            return "chatty"
        for face in FACES:
            with suppress(RuntimeError):  # loguru refuses what is logged from inside of its own sinks
                self._scene.log(face, self._level, self)
        warnings.warn("asked", stacklevel=1)
        return "chatty"


class ChattyError(Exception):
    """An exception that logs whenever it is asked what it says."""

    def __str__(self) -> str:
        logging.getLogger("shop").error("asked", exc_info=self)
        structlog.get_logger().error("asked", exc_info=self)
        return "chatty"


class ChattyMapping(Mapping[str, object]):
    """A mapping that logs whenever it is read."""

    def __getitem__(self, key: str) -> object:
        logging.getLogger("shop").info("asked", extra={"value": self})
        return key

    def __iter__(self) -> Iterator[str]:
        structlog.get_logger().info("asked", value=self)
        return iter("ab")

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize(("face", "level"), [*product(["logging", "structlog", "loguru"], LEVELS)])
def test_what_a_repr_logs_is_left_out_by_all(scene: Scene, face: str, level: int) -> None:
    scene.begin()
    chatty = Chatty(scene, level)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        scene.log(face, level, chatty)
    assert scene.queued() == dict.fromkeys(scene.queued(), 0) | {OWN[face]: 1}
    assert chatty.asked <= 2  # as an argument and in `extra`


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_context_logs_is_left_out_and_its_fields_are_there(scene: Scene, level: int) -> None:
    scene.begin()
    called = 0

    def context() -> dict[str, object]:
        nonlocal called
        called += 1
        for face in FACES:
            scene.log(face, level, called)
        return {"called": called}

    scene.context = context
    for _ in range(3):
        logging.getLogger("shop").log(level, "order")
    assert called == 3
    assert scene.queued() == {name: 3 if name == "TransferHandler" else 0 for name in scene.queued()}


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_filter_logs_is_left_out(scene: Scene, level: int) -> None:
    scene.begin()
    asked = 0

    class Chatty(logging.Filter):
        def filter(self, _: logging.LogRecord) -> bool:
            nonlocal asked
            asked += 1
            for face in FACES:
                scene.log(face, level, asked)
            return asked % 2 == 1

    scene.handler.addFilter(Chatty())
    for _ in range(4):
        logging.getLogger("shop").log(level, "order")
    assert asked == 4
    assert scene.queued() == {name: 2 if name == "TransferHandler" else 0 for name in scene.queued()}


def test_a_filter_that_fails_lets_the_record_pass(scene: Scene) -> None:
    scene.begin()

    class Broken(logging.Filter):
        def filter(self, _: logging.LogRecord) -> bool:
            raise LookupError("no request")

    scene.handler.addFilter(Broken())
    logging.getLogger("shop").info("order")
    assert scene.handler.stats().queued == 1


@pytest.mark.parametrize("face", FACES[:2])
def test_what_exceptions_and_mappings_log_when_they_are_read_is_left_out(scene: Scene, face: str) -> None:
    scene.begin()
    scene.log(face, logging.INFO, ChattyError())
    scene.log(face, logging.INFO, ChattyMapping())
    scene.log(face, logging.INFO, {"deep": [ChattyMapping(), ChattyError()]})
    if face == "logging":
        logging.getLogger("shop").error("failed", exc_info=ChattyError())
        logging.getLogger("shop").error(ChattyError())
    assert scene.queued() == dict.fromkeys(scene.queued(), 0) | {OWN[face]: 5 if face == "logging" else 3}


@pytest.mark.parametrize("method", ["map", "emit"])
def test_what_a_subclass_logs_is_left_out(scene: Scene, method: str) -> None:
    scene.begin()

    class Own(TransferHandler):
        def map(self, record: logging.LogRecord) -> dict[str, object]:
            logging.getLogger("shop").critical("mapping", stack_info=True)
            if method == "emit":
                raise RuntimeError("no fields")
            return super().map(record)

    own = Own("a", **NOWHERE)
    logging.getLogger("shop").handlers[:] = [own]
    try:
        logging.getLogger("shop").info("order")
        assert (own.stats().queued, scene.handler.stats().queued) == (1, 0)
    finally:
        own._sender.close(0)


class InterceptHandler(logging.Handler):
    """As the documentation of loguru has it."""

    def emit(self, record: logging.LogRecord) -> None:
        loguru.logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())


def test_all_of_logging_may_go_through_loguru_at_debug(scene: Scene) -> None:
    scene.begin()
    logging.getLogger("shop").addHandler(InterceptHandler())
    logging.getLogger("shop").debug("order")
    logging.getLogger("shop").error("order %s", Chatty(scene, logging.DEBUG))
    assert scene.queued()["TransferSink"] == scene.queued()["TransferHandler"] == 2


def test_the_thread_that_sends_waits_for_nobody_who_waits_for_it(
    scene: Scene, own_nats: Callable[..., NatsServer], namespace: str
) -> None:
    """All of logging goes through loguru, whose sink waits for room under its lock; then NATS comes back."""
    scene.begin()
    nats = own_nats()
    with BlockingTransfer.connect(nats.url, namespace=namespace) as transfer:
        transfer.set(Logger("a"))
    ours, intercept = logging.getLogger("transfer"), InterceptHandler()
    sink = TransferSink("a", url=nats.url, namespace=namespace, overflow="block", max_entries=20)
    loguru.logger.add(sink, format="{message}")
    ours.addHandler(intercept)
    try:
        loguru.logger.info("first")
        assert sink.wait(20)
        nats.kill()
        thread = threading.Thread(target=lambda: [loguru.logger.info("order") for _ in range(100)], daemon=True)
        thread.start()
        while sink.stats().queued < 9 or sink.stats().connected:
            thread.join(0.05)
        nats.start()
        thread.join(40)
        assert not thread.is_alive()
        assert sink.wait(20)
        assert (sink.stats().published, sink.stats().dropped) == (101, {})
    finally:
        ours.removeHandler(intercept)
        sink._sender.close(0)


def test_only_whoever_makes_an_entry_is_inside_not_its_tasks_and_threads() -> None:
    found: list[bool] = []

    async def later() -> None:
        await pause(0)
        found.append(is_making())

    async def main() -> None:
        with Making():
            found.append(is_making())
            task = asyncio.get_running_loop().create_task(later())
            thread = threading.Thread(target=lambda: found.append(is_making()))
            thread.start()
            thread.join()
        found.append(is_making())
        await task

    asyncio.run(main())
    assert found == [True, False, False, False]
