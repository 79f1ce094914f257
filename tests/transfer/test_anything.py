"""Values of every type and nesting, through every face and real servers into a real MongoDB: each is stored.

VALUES=100000 tries so many of them (1,200).
"""

from __future__ import annotations

import logging
import os
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any

import loguru
import pytest
import structlog
from anyio import to_thread
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from tests.support.waiting import until
from tests.transfer.anything import random_mapping, random_value
from transfer import BlockingTransfer, Logger, Transfer
from transfer.bridges.loguru import TransferSink
from transfer.bridges.opentelemetry import TransferExporter
from transfer.bridges.structlog import TransferProcessor
from transfer.handler import TransferHandler

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import NatsServer, Replica
    from transfer.background.source import Emitter

HOW_MANY = int(os.environ.get("VALUES", "1200"))
AT_ONCE = 300
pytestmark = pytest.mark.timeout(120 + HOW_MANY // 20)


class Faces:
    """Everything that takes what an application logs; each entry has a number of its own."""

    def __init__(self, url: str, namespace: str, stack: AsyncExitStack) -> None:
        options: Any = {"url": url, "namespace": namespace, "overflow": "block"}
        handler, processor = TransferHandler("app", **options), TransferProcessor("app", **options)
        sink, exporter = TransferSink("app", **options), TransferExporter("app", **options)
        self.sources: tuple[Emitter, ...] = (handler, processor, sink, exporter)
        for source in self.sources:
            stack.callback(source._sender.close, 5)
        self._logger = logging.Logger("shop")  # noqa: LOG001 - one on which pytest has no handlers
        self._logger.addHandler(handler)
        self._structlog = structlog.wrap_logger(None, processors=[processor])
        loguru.logger.remove()
        loguru.logger.add(sink, format="{message}", catch=False)
        stack.callback(loguru.logger.remove)
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        self._telemetry = provider.get_logger("shop")
        self.transfers: list[Transfer | BlockingTransfer] = []

    def log(self, number: int, random: Random) -> None:
        """Hand a value to one of them."""
        value = random_value(random)
        match number % 6:
            case 0:
                args = ("%s", [value]) if random.random() < 0.5 else (value,)
                self._logger.info(*args, extra={"number": number, "timestamp": value, "value": [value]})
            case 1:
                self._structlog.info(value, number=number, value=value, timestamp=value)
            case 2:
                loguru.logger.bind(number=number, value=value, metadata=value).info("order")
            case 3:
                record: Any = {"body": value, "attributes": {"number": number}}
                self._telemetry.emit(severity_number=SeverityNumber.WARN, **record)
            case face:
                data = {"number": number, "value": value, **random_mapping(random)}
                data.pop("_id", None)  # the same one twice is a dead letter: it is the identity of an entry
                self.transfers[face - 4].send("app", data, metadata=value, timestamp=value)


async def test_values_of_every_type_through_every_face_are_stored_once(
    start_replica: Callable[..., Replica],
    nats_server: NatsServer,
    namespace: str,
    database: Database[dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with AsyncExitStack() as stack:
        connect: Any = {"namespace": namespace, "overflow": "block"}
        transfer = await stack.enter_async_context(Transfer.connect(nats_server.url, **connect))
        await transfer.set(Logger("app"))
        start_replica()
        faces = Faces(nats_server.url, namespace, stack)
        faces.transfers += [transfer, stack.enter_context(BlockingTransfer.connect(nats_server.url, **connect))]
        random = Random("anything")  # noqa: S311 - the same values in every run
        for number in range(HOW_MANY):
            faces.log(number, random)
            if number % AT_ONCE == 0:
                await to_thread.run_sync(lambda: [one._sender.flush(60) for one in faces.sources])
        for source in faces.sources:
            assert await to_thread.run_sync(source.wait, 60)
            assert source.stats().dropped == {}
        for one in faces.transfers:
            flushed = one.flush(60)
            assert flushed if isinstance(flushed, bool) else await flushed
            assert one.stats().dropped == {}
    await until(lambda: database["app_logs"].count_documents({}) >= HOW_MANY, 60)
    assert database["app_fail"].count_documents({}) == 0
    numbers = [found["number"] for found in database["app_logs"].find({}, {"number": 1, "_id": 0})]
    assert sorted(numbers) == list(range(HOW_MANY))
    assert "Traceback" not in capfd.readouterr().err
