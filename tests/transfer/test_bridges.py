"""What structlog, loguru and OpenTelemetry hand over becomes the data of an entry."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio
import loguru
import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context
from structlog import DropEvent

from tests.transfer.anything import ANYTHING, ODD, unhurried
from transfer.bridges.loguru import TransferSink, message_data
from transfer.bridges.opentelemetry import TransferExporter, nested, readable_data
from transfer.bridges.structlog import TransferProcessor, event_data
from transfer.client import Logger, Transfer
from transfer.entries.entry import new_id
from transfer.entries.lenient import encode_anything
from transfer.errors import InvalidKey, WrongSettings
from transfer.handler import TransferHandler
from transfer.system.inside import SENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from collector.local import NatsServer
    from transfer.background.source import Emitter

NOWHERE = "nats://127.0.0.1:1"


@pytest.mark.parametrize("kind", [TransferHandler, TransferProcessor, TransferSink, TransferExporter])
def test_wrong_keywords_are_told_at_once(kind: type[Emitter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAMESPACE", raising=False)
    with pytest.raises(InvalidKey):
        kind("no key", url=NOWHERE, namespace="beta")
    with pytest.raises(WrongSettings, match="NAMESPACE"):
        kind("system", url=NOWHERE)
    with pytest.raises(WrongSettings, match="overflow"):
        kind("system", url=NOWHERE, namespace="beta", overflow="explode")


def test_an_event_of_structlog_keeps_its_fields_beside_ours() -> None:
    event = {"event": "order", "number": 17, "timestamp": "2026-01-01", "msg": "mine", "exc_info": ValueError("no")}
    assert event_data("exception", event) == {
        "msg": "order",
        "level": "ERROR",
        "exception": {"type": "ValueError", "message": "no", "stack": "ValueError: no\n"},
        "number": 17,
        "timestamp_": "2026-01-01",
        "msg_": "mine",
    }


@pytest.mark.parametrize(
    ("stamp", "is_left_out"),
    [
        (structlog.processors.TimeStamper(fmt="iso"), True),
        (structlog.processors.TimeStamper(fmt="iso", utc=False), True),
        (structlog.processors.TimeStamper(), True),
        (structlog.processors.TimeStamper(fmt="%H:%M:%S"), False),
        (lambda _, __, event: {**event, "timestamp": 1_700_000_000.0}, False),
        (lambda _, __, event: {**event, "timestamp": "2023-11-14T22:13:20Z"}, False),
        (lambda _, __, event: {**event, "timestamp": None}, False),
        (lambda _, __, event: {**event, "timestamp": float("nan")}, False),
        (lambda _, __, event: {**event, "timestamp": 7}, False),
    ],
)
def test_the_timestamp_of_an_event_is_left_out_where_the_entrys_own_says_the_same(
    stamp: Callable[..., dict[str, object]], is_left_out: bool
) -> None:
    event = stamp(None, "info", {"event": "order"})
    data = event_data("info", event)
    assert "timestamp" not in data
    assert ("timestamp_" not in data) == is_left_out


@unhurried
@given(event=st.dictionaries(st.text(), ANYTHING), event_name=ANYTHING, level=ANYTHING, exc_info=ANYTHING)
def test_whatever_structlog_hands_over_becomes_an_entry(
    event: dict[str, object], event_name: object, level: object, exc_info: object
) -> None:
    data = event_data("info", event | {"event": event_name, "level": level, "exc_info": exc_info})
    stored = msgspec.msgpack.decode(encode_anything(data, 0, None, new_id()))["data"]
    assert stored.keys() >= {"msg", "level"}


@pytest.mark.parametrize("make", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("role", ["event", "level", "timestamp", "exc_info", "number"])
def test_structlog_may_hand_over_each_odd_value_in_every_place(make: Callable[[], object], role: str) -> None:
    data = event_data("info", {"event": "order", role: make()})
    stored = msgspec.msgpack.decode(encode_anything(data, 0, None, new_id()))["data"]
    assert stored.keys() >= {"msg", "level"}


@pytest.mark.parametrize(
    ("method", "level", "stored"),
    [("warn", None, "WARNING"), ("info", "warning", "WARNING"), ("msg", None, "MSG"), ("fatal", None, "CRITICAL")],
)
def test_the_level_of_an_event_is_named_as_logging_names_it(method: str, level: str | None, stored: str) -> None:
    event = {"event": "order"} | ({"level": level} if level else {})
    assert event_data(method, event)["level"] == stored


@pytest.fixture
def processor() -> Iterator[Callable[..., TransferProcessor]]:
    """Make processors whose NATS is not there, and end them with the test."""
    with ExitStack() as stack:

        def make(*, last: bool = True) -> TransferProcessor:
            processor = TransferProcessor("system", url=NOWHERE, namespace="beta", last=last)
            stack.callback(processor._sender.close, 0)
            return processor

        yield make


def test_the_processor_is_the_last_of_its_chain_or_hands_the_event_on_as_it_came(
    processor: Callable[..., TransferProcessor],
) -> None:
    event = {"event": "order", "timestamp": 1}
    with pytest.raises(DropEvent):
        processor()(None, "info", event.copy())
    assert processor(last=False)(None, "info", event) == {"event": "order", "timestamp": 1}


@pytest.mark.parametrize("name", ["transfer", "transfer.jobs", "nats", "nats.aio.client", "natsume", None])
def test_what_a_sending_thread_logs_is_left_out_and_what_an_application_logs_is_not(
    processor: Callable[..., TransferProcessor], name: str | None
) -> None:
    middle = processor(last=False)
    event = {"event": "lost", "logger": name}
    with ThreadPoolExecutor(1) as sending:
        ident = sending.submit(threading.get_ident).result()
        SENDING.add(ident)
        try:
            sending.submit(middle, None, "info", event).result()
        finally:
            SENDING.discard(ident)
    assert middle.stats().queued == 0
    middle(None, "info", event)
    assert middle.stats().queued == 1


def test_a_message_of_loguru_has_the_documented_fields() -> None:
    logger = loguru.logger
    messages: list[loguru.Message] = []
    sink = logger.add(messages.append, format="{message}")
    try:
        logger.bind(number=17, level="mine").success("order of {}", "Ada")
        try:
            int("much")
        except ValueError:
            logger.exception("no price")
    finally:
        logger.remove(sink)
    first, second = (message_data(message.record) for message in messages)
    assert (first["msg"], first["level"], first["logger"]) == ("order of Ada", "SUCCESS", __name__)
    assert (first["function"], first["number"], first["level_"]) == (
        "test_a_message_of_loguru_has_the_documented_fields",
        17,
        "mine",
    )
    exception = second["exception"]
    assert isinstance(exception, dict)
    assert (exception["type"], exception["message"]) == (
        "ValueError",
        "invalid literal for int() with base 10: 'much'",
    )
    assert "Traceback" in exception["stack"]


def emitted(**record: Any) -> ReadableLogRecord:
    """Return what the SDK exports of a record that was emitted."""
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's types are not on every function
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("shop.orders").emit(**record)
    return exporter.get_finished_logs()[0]


def test_a_record_of_opentelemetry_has_the_documented_fields() -> None:
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False))
    record = emitted(
        context=set_span_in_context(span),
        severity_number=SeverityNumber.WARN2,
        body={"order": 17},
        attributes={"http.route": "/orders", "level": 3},
        event_name="order.placed",
    )
    assert readable_data(record, "shop.orders") == {
        "msg": {"order": 17},
        "level": "WARN2",
        "severity": 14,
        "logger": "shop.orders",
        "resource": {"service": {"name": "shop"}},
        "trace_id": f"{0xABC:032x}",
        "span_id": f"{0xDEF:016x}",
        "event": "order.placed",
        "http": {"route": "/orders"},
        "level_": 3,
    }


def test_an_exception_of_opentelemetry_has_the_fields_that_all_exceptions_have() -> None:
    exception = readable_data(emitted(body="failed", exception=ValueError("no")), None)["exception"]
    assert exception == {"type": "ValueError", "message": "no", "stack": "ValueError: no\n"}


def test_a_record_without_severity_and_span_says_so() -> None:
    data = readable_data(emitted(body="order"), None)
    assert (data["level"], data["severity"]) == ("UNSPECIFIED", 0)
    assert "trace_id" not in data
    assert "span_id" not in data


async def test_batches_of_opentelemetry_that_are_shut_down_are_published_whole(
    nats_server: NatsServer, namespace: str
) -> None:
    async with Transfer.connect(nats_server.url, namespace=namespace) as transfer:
        await transfer.set(Logger("telemetry"))
    exporter = TransferExporter("telemetry", url=nats_server.url, namespace=namespace)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_export_batch_size=10))
    for number in range(25):
        provider.get_logger("shop").emit(body="order", attributes={"number": number})
    provider.get_logger("nats.aio.client").emit(body="the application's own")
    await anyio.to_thread.run_sync(provider.shutdown)
    assert exporter.force_flush(10_000)
    assert exporter.stats().published == 26


def test_an_attribute_whose_place_is_taken_keeps_its_name() -> None:
    assert nested({"a": 1, "a.b": 2, "c.d": 3, "c.e.f": 4}) == {"a": 1, "a.b": 2, "c": {"d": 3, "e": {"f": 4}}}


@given(st.dictionaries(st.text(alphabet="ab.", max_size=6), st.integers() | st.just({"a": 0}), max_size=8))
def test_no_attribute_is_lost_and_none_is_changed(attributes: dict[str, object]) -> None:
    before = {name: value.copy() if isinstance(value, dict) else value for name, value in attributes.items()}
    tree = nested(attributes)
    assert attributes == before
    for name, value in attributes.items():
        if not isinstance(value, dict):
            assert value in (tree.get(name), _at(tree, name))


def _at(tree: Mapping[str, object], name: str) -> object:
    found: object = tree
    for step in name.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found
