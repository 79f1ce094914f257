"""The handler of the standard library: through real NATS into real MongoDB."""

from __future__ import annotations

import logging
import logging.config
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from io import StringIO
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from weakref import ref

import anyio
import pytest
from anyio import to_thread

from tests.support.waiting import count, until
from transfer import BlockingTransfer
from transfer.background import process
from transfer.client import Logger, Transfer
from transfer.handler import TransferHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo.database import Database

    from collector.local import NatsServer, Replica

pytestmark = pytest.mark.timeout(300)
request: ContextVar[str] = ContextVar("request", default="")


@pytest.fixture
async def collected(
    start_replica: Callable[..., Replica], nats_server: NatsServer, namespace: str
) -> AsyncIterator[str]:
    """Give the key of a logger that a replica collects."""
    async with Transfer.connect(nats_server.url, namespace=namespace) as transfer:
        await transfer.set(Logger("app"))
        start_replica()
        yield "app"


@pytest.fixture
def configure(collected: str, nats_server: NatsServer, namespace: str) -> Iterator[Callable[[], TransferHandler]]:
    """Make the handler with `dictConfig`, of plain keywords; the loggers are as they were after the test."""
    logger = logging.getLogger("shop")

    def once() -> TransferHandler:
        handler = {
            "class": "transfer.TransferHandler",
            "key": collected,
            "url": nats_server.url,
            "namespace": namespace,
            "level": "INFO",
            "context": f"ext://{__name__}.fields",
            "overflow": "drop_newest",
            "max_entries": 20_000,
            "bundle_entries": 100,
        }
        loggers = {"shop": {"level": "DEBUG", "handlers": ["transfer"], "propagate": False}}
        config = {"version": 1, "incremental": False, "disable_existing_loggers": False}
        logging.config.dictConfig(config | {"handlers": {"transfer": handler}, "loggers": loggers})
        made = logger.handlers[0]
        assert isinstance(made, TransferHandler)
        return made

    yield once
    for handler in logger.handlers.copy():
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def fields() -> dict[str, object]:
    return {"request": request.get()}


async def test_what_dict_config_has_set_up_stores_records(
    configure: Callable[[], TransferHandler], database: Database[dict[str, Any]]
) -> None:
    handler = configure()
    request.set("r-1")
    shop = logging.getLogger("shop")
    shop.debug("below the handler's level")
    shop.info("order %s", 17, extra={"amount": 9.5, "timestamp": "noon"})
    logging.getLogger("shop.prices").error("no price", exc_info=KeyError("price"), stack_info=True)
    for name in ("transfer.jobs", "nats"):
        handler.handle(logging.makeLogRecord({"name": name, "msg": "the application's", "levelno": logging.WARNING}))
    assert await anyio.to_thread.run_sync(handler.wait, 10)
    assert handler.stats().published == 4
    await until(lambda: count(database, "app") == 4, 10)
    order = database.app_logs.find_one({"level": "INFO"})
    assert order is not None
    assert (order["msg"], order["template"], order["args"]) == ("order 17", "order %s", [17])
    assert (order["amount"], order["timestamp_"], order["request"]) == (9.5, "noon", "r-1")
    price = database.app_logs.find_one({"level": "ERROR"})
    assert price is not None
    assert (price["logger"], price["exception"]["type"]) == ("shop.prices", "KeyError")
    assert price["stack"].startswith("Stack")


class Unmapped(TransferHandler):
    """An application's own fields, which fail."""

    def map(self, record: logging.LogRecord) -> dict[str, object]:
        raise LookupError(record.name)


@pytest.mark.parametrize(
    ("kind", "created", "reason"),
    [(Unmapped, 1.0, "LookupError('shop')"), (TransferHandler, "at noon", None)],
)
async def test_what_cannot_be_mapped_is_stored_with_the_reason(
    kind: type[TransferHandler],
    created: object,
    reason: str | None,
    collected: str,
    nats_server: NatsServer,
    namespace: str,
    database: Database[dict[str, Any]],
) -> None:
    handler = kind(collected, url=nats_server.url, namespace=namespace)
    record = {"name": "shop", "msg": "order", "levelname": "INFO", "levelno": logging.INFO, "created": created}
    handler.handle(logging.makeLogRecord(record))
    handler.close()
    await until(lambda: count(database, "app") == 1, 10)
    order = database.app_logs.find_one()
    assert order is not None
    assert (order["msg"], order["level"], order["logger"]) == ("order", "INFO", "shop")
    assert order.get("mapping_error") == reason


async def test_dict_config_again_while_threads_log_loses_and_doubles_nothing(
    configure: Callable[[], TransferHandler], database: Database[dict[str, Any]]
) -> None:
    handlers = [configure()]
    with logging_threads(4) as logged:
        for _ in range(10):
            seen = sum(logged.values())
            await until(lambda seen=seen: sum(logged.values()) > seen + 50, 10)  # type: ignore[misc]
            handlers.append(await anyio.to_thread.run_sync(configure))
    for handler in handlers:
        assert await anyio.to_thread.run_sync(handler.wait, 10)
    published = sum(handler.stats().published for handler in handlers)
    await until(lambda: count(database, "app") == published, 20)
    dropped = Counter[str]()
    for handler in handlers:
        dropped.update(handler.stats().dropped)
    stored = Counter((found["thread"], found["number"]) for found in database.app_logs.find())
    assert max(stored.values()) == 1
    assert published >= 10 * (50 - 4)  # what comes while a logger has no handler is nobody's: `logging` itself drops it
    assert not dropped


@contextmanager
def logging_threads(threads: int) -> Iterator[Counter[str]]:
    """Log from threads, all the time; give what each has logged."""
    logged = Counter[str]()
    ending = Event()

    def log(name: str) -> None:
        while not ending.wait(0.001):
            logging.getLogger("shop").info("order", extra={"number": logged[name]})
            logged[name] += 1

    running = [Thread(target=log, args=(f"shop-{number}",), name=f"shop-{number}") for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield logged
    finally:
        ending.set()
        for thread in running:
            thread.join()


async def test_what_our_own_thread_logs_while_a_caller_waits_for_room_is_no_deadlock(
    own_nats: Callable[..., NatsServer], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody waits for room, and the thread that has to make it logs that it is not connected."""
    nats = own_nats()
    with BlockingTransfer.connect(nats.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))
    handler = TransferHandler("app", url=nats.url, namespace=namespace, overflow="block", max_entries=100)
    root, logger = logging.getLogger(), logging.getLogger("shop")
    root.addHandler(handler)
    try:
        logger.warning("first")
        assert handler.wait(10)
        nats.stop()

        def log() -> None:
            for number in range(300):
                logger.warning("number %d", number)

        waiting = Thread(target=log, daemon=True)
        waiting.start()
        await until(lambda: handler.stats().queued == 50, 10)  # as much as is left
        await until(lambda: "is away" in caplog.text, 10)
        nats.start()
        await to_thread.run_sync(waiting.join, 20)
        assert not waiting.is_alive()
        assert await to_thread.run_sync(handler.wait, 20)
        assert handler.stats().published == 301
    finally:
        root.removeHandler(handler)
        handler.close()


CLOSERS: dict[str, Callable[[TransferHandler], None]] = {
    "close": TransferHandler.close,
    "shutdown": lambda handler: logging.shutdown([ref(handler)]),
    "dictConfig": lambda _: logging.config.dictConfig({"version": 1, "disable_existing_loggers": False}),
    "fileConfig": lambda _: logging.config.fileConfig(StringIO(FILE_CONFIG), disable_existing_loggers=False),
}
FILE_CONFIG = "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers="


@pytest.mark.parametrize("closer", CLOSERS)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_closed_handler_that_gets_a_record_opens_again_and_its_thread_ends_meanwhile(
    nats_server: NatsServer, namespace: str, closer: str, at_once: bool
) -> None:
    with BlockingTransfer.connect(nats_server.url, namespace=namespace) as transfer:
        transfer.set(Logger("app"))
        handler = TransferHandler("app", url=nats_server.url, namespace=namespace)
        logger, root = logging.getLogger("shop"), logging.getLogger()
        before = root.handlers.copy(), root.level
        logger.addHandler(handler)
        try:
            for close in (CLOSERS[closer], TransferHandler.close, TransferHandler.close):
                logger.warning("order")
                close(handler)
                if not at_once:
                    await until(lambda: handler._sender not in process.running, 10)
        finally:
            logger.removeHandler(handler)
            root.handlers[:], root.level = before
        assert await to_thread.run_sync(handler.wait, 10)
        await until(lambda: handler._sender not in process.running, 10)
        assert (handler.stats().published, handler.stats().dropped) == (3, {})
        found = transfer.get("app").stream
        assert found is not None
        assert found.messages > 0
