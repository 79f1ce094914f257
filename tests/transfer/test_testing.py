"""What the package gives to the tests of applications behaves as the real client does."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from transfer import (
    BlockingTransfer,
    InvalidEntry,
    InvalidKey,
    Logger,
    LoggerNotEmpty,
    Transfer,
    Unavailable,
    UnknownLogger,
)
from transfer.background.drops import Dropped
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
