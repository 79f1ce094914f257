"""What the package gives to the tests of applications behaves as the real client does."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from transfer import (
    BlockingTransfer,
    InvalidEntry,
    InvalidKey,
    Logger,
    LoggerNotEmpty,
    Transfer,
    TransferHandler,
    Unavailable,
    UnknownLogger,
    WrongSettings,
)
from transfer.background.drops import Dropped
from transfer.background.lane import Queued
from transfer.background.sender import Sender
from transfer.entries.stub import stub_of
from transfer.prometheus import TransferCollector
from transfer.testing import RecordingBlockingTransfer, RecordingHandler, RecordingTransfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import NatsServer

NOON = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


async def test_what_was_published_is_what_mongodb_would_get(recording_transfer: RecordingTransfer) -> None:
    await recording_transfer.set(Logger("shop"))
    data = {"colour": Colour.RED, "pair": (1, 2), "list": [1]}
    await recording_transfer.publish("shop", data, metadata={"host": "web-1"}, timestamp=NOON)
    recording_transfer.send("shop", {"what": object}, timestamp=0)
    data["list"] = "changed"
    first, second = recording_transfer.entries("shop")
    assert first.data == {"colour": "red", "pair": [1, 2], "list": [1]}
    assert (first.timestamp, first.metadata) == (NOON, {"host": "web-1"})
    assert (second.data, second.timestamp.timestamp()) == ({"what": "<class 'object'>"}, 0)
    recording_transfer.clear()
    assert recording_transfer.entries() == []


WHERE = re.compile(r" at 0x.*| in namespace '[^']*' of [^;]*")
"""What only the real one knows, and what no two runs have in common."""


def wrong(transfer: BlockingTransfer | RecordingBlockingTransfer) -> list[str]:
    """Return what is raised for each wrong use."""
    transfer.set(Logger("shop"))
    transfer.publish("shop", {"number": 1})
    uses: list[Callable[[], object]] = [
        lambda: transfer.get("nobody"),
        lambda: transfer.update(Logger("nobody")),
        lambda: transfer.publish("nobody", {}),
        lambda: transfer.publish("no key!", {}),
        lambda: transfer.publish("shop", {"what": object()}),
        lambda: transfer.remove("shop"),
        lambda: transfer.get("no key!"),
    ]
    raised = []
    for use in uses:
        with pytest.raises((UnknownLogger, InvalidKey, InvalidEntry, LoggerNotEmpty)) as caught:
            use()
        raised.append(WHERE.sub("", str(caught.value)))
    return raised


def test_wrong_uses_raise_what_the_real_one_raises(nats_server: NatsServer, namespace: str) -> None:
    with (
        BlockingTransfer.connect(nats_server.url, namespace=namespace) as real,
        RecordingBlockingTransfer.connect(nats_server.url, namespace=namespace) as recording,
    ):
        assert wrong(recording) == wrong(real)
        again = [one.publish("shop", {}, id=b"0" * 12).duplicate for one in (recording, real) for _ in range(2)]
    assert again == [False, True, False, True]


async def test_both_faces_have_the_methods_of_the_real_ones() -> None:
    for real, recording in ((Transfer, RecordingTransfer), (BlockingTransfer, RecordingBlockingTransfer)):
        public = {name for name in vars(real) if not name.startswith("_")} - {"names"}
        assert public <= set(dir(recording))


async def test_errors_can_be_ordered_and_send_never_raises(recording_transfer: RecordingTransfer) -> None:
    await recording_transfer.set(Logger("shop"))
    recording_transfer.fail(Unavailable("NATS is away"))
    recording_transfer.send("shop", {"number": 1})
    with pytest.raises(Unavailable):
        await recording_transfer.publish("shop", {"number": 2})
    await recording_transfer.publish("shop", {"number": 3})
    recording_transfer.send("nobody", {})
    recording_transfer.send("no key!", {})
    assert [entry.data["number"] for entry in recording_transfer.entries()] == [1, 3]
    assert recording_transfer.stats().dropped == {"unknown_logger": 1, "invalid_key": 1}


def test_records_are_recorded_as_the_handler_maps_them() -> None:
    handler = RecordingHandler("shop", context=lambda: {"request": "r-1"})
    logger = logging.getLogger("shop.orders")
    logger.addHandler(handler)
    try:
        logger.warning("order %s", "A-17", extra={"amount": 42.5})
    finally:
        logger.removeHandler(handler)
    (data,) = handler.data
    assert (data["msg"], data["level"], data["amount"], data["request"]) == ("order A-17", "WARNING", 42.5, "r-1")


def test_the_plugin_loads_nothing_of_the_client_for_those_who_do_not_use_it() -> None:
    program = "import sys, transfer.pytest_plugin; print([name for name in ('nats', 'msgspec') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"


def test_prometheus_has_every_reason_from_the_start_and_sums_over_senders() -> None:
    first, second = RecordingBlockingTransfer(loggers=("shop",)), RecordingBlockingTransfer(loggers=("shop",))
    registry = CollectorRegistry()
    registry.register(TransferCollector(first, second))
    for transfer in (first, second):
        transfer.send("shop", {})
        transfer.send("nobody", {})
    page = generate_latest(registry).decode()
    assert "transfer_published_entries_total 2.0" in page
    assert "transfer_connections 2.0" in page
    reasons = {why.value: page.count(f'transfer_dropped_entries_total{{reason="{why.value}"}}') for why in Dropped}
    assert set(reasons.values()) == {1}
    assert 'transfer_dropped_entries_total{reason="unknown_logger"} 2.0' in page


class Broken:
    """A value of an application that fails when it is looked at."""

    def __repr__(self) -> str:
        raise ValueError("no words")


def _raised() -> Any:
    try:
        dict[str, int]()["price"]
    except KeyError:
        return sys.exc_info()


RECORDS: dict[str, dict[str, Any]] = {
    "plain": {"msg": "order %s", "args": ("A-17",)},
    "names of the envelope": {"msg": "x", "timestamp": 7, "metadata": {"a": 1}, "_id": 7, "id": 8},
    "names of the record": {
        "msg": "x",
        "level": "mine",
        "logger": "mine",
        "exception": "mine",
        "mapping_error": "mine",
    },
    "a mapping": {"msg": {"event": "paid", "amount": 7, "level": "mine"}},
    "an error": {"msg": "failed", "exc_info": _raised()},
    "values": {"msg": "x", "big": 2**70, "broken": Broken(), "deep": [[{(1, 2): {3}}]], "lone": "\\ud800", "at": NOON},
    "arguments that do not fit": {"msg": "order %s %s", "args": (1,)},
    "a time that is none": {"msg": "x", "created": "yesterday"},
    "too large for a message": {"msg": "x" * 100, "filling": os.urandom(2_000_000)},
    "too large for the queue": {"msg": "x" * 100, "filling": bytes(20_000_000)},
}


def _queued(handler: TransferHandler) -> list[dict[str, Any]]:
    """Return the entries that wait in the real handler's queue, as the thread that sends would make them."""
    outbox = handler._sender._outbox
    (lane,) = outbox._lanes.values()
    found = [one.sent() if not isinstance(one, Queued) else one for one in (*lane.ordinary, *lane.important)]
    bodies = [stub_of(one.body) if len(one.body) > 1_000_000 else one.body for one in found]
    return [msgspec.msgpack.decode(body or b"") for body in bodies]


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_recorded_as_the_real_handler_queues_it(name: str) -> None:
    recording = RecordingHandler("shop", context=lambda: {"request": "r-1"})
    real = TransferHandler("shop", url="nats://127.0.0.1:1", namespace="beta", context=lambda: {"request": "r-1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sender, "_start", lambda _: None)
        record = logging.makeLogRecord({"name": "shop", "levelname": "ERROR", "levelno": 40, **RECORDS[name]})
        for handler in (recording, real):
            handler.handle(record)
    (queued,) = _queued(real)
    (recorded,) = recording._recorder.all
    assert recorded.data == queued["data"]
    assert recorded.metadata == queued["metadata"]
    assert ("created" in RECORDS[name]) or recorded.timestamp == queued["timestamp"]
    dropped = {"too_large": 1} if "too large" in name else {}
    assert recording.stats().dropped == dropped
    real._sender.close(0)


def test_a_recording_handler_refuses_what_the_real_one_refuses() -> None:
    for made in (RecordingHandler, partial(TransferHandler, namespace="beta")):
        with pytest.raises(InvalidKey):
            made("no key!")
        with pytest.raises(WrongSettings):
            made("shop", max_entries=-1)


async def test_after_the_end_nothing_is_taken_as_with_the_real_one() -> None:
    async with RecordingTransfer.connect() as transfer:
        await transfer.set(Logger("shop"))
        transfer.send("shop", {"number": 1})
    transfer.send("shop", {"number": 2})
    assert (transfer.stats().published, transfer.stats().dropped) == (1, {"closed": 1})
