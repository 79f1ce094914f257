"""An application that uses all of the client, as a strict type checker sees it from outside.

Each `type: ignore` is a wrong use: were it none, the checker would say that the comment is not needed.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import assert_type

from transfer import (
    BlockingTransfer,
    CollectionSpec,
    Confirmation,
    Found,
    Logger,
    PublishUnconfirmed,
    Stats,
    StreamSpec,
    Transfer,
    TransferHandler,
    UnreadableSpec,
)
from transfer.testing import Recorded, RecordingHandler, RecordingTransfer

SHOP = Logger(
    "shop",
    description="what the shop says",
    collection=CollectionSpec(kind="timeseries", granularity="seconds"),
    stream=StreamSpec(max_age=86_400.0),
)


async def asynchronous() -> None:
    """Use every method of `Transfer`."""
    async with Transfer.connect("nats://localhost:4222", namespace="beta", token="t", overflow="block") as transfer:
        assert_type(transfer, Transfer)
        await transfer.set(SHOP)
        await transfer.update(SHOP)
        found = await transfer.get("shop")
        assert_type(found, Found)
        waiting = found.stream.messages  # type: ignore[union-attr]
        assert_type(await transfer.list(), list[Found | UnreadableSpec])
        try:
            confirmation = await transfer.publish("shop", {"number": waiting}, timestamp=datetime.now(UTC))
        except PublishUnconfirmed as error:
            confirmation = await transfer.publish("shop", {}, id=error.id, timestamp=error.timestamp)
        assert_type(confirmation, Confirmation)
        await transfer.publish("shop", "text")  # type: ignore[arg-type]
        transfer.send("shop", "text", important=True)
        assert_type(await transfer.flush(1.0), bool)
        assert_type(transfer.stats(), Stats)
        await transfer.remove("shop", drain=True)
    Transfer.connect(unknown=1)  # type: ignore[call-arg]
    Transfer.connect(max_entries="many")  # type: ignore[arg-type]


def blocking() -> None:
    """Use methods of `BlockingTransfer`."""
    with BlockingTransfer.connect(["nats://a:4222", "nats://b:4222"], bundle_entries=1) as transfer:
        assert_type(transfer, BlockingTransfer)
        transfer.set(SHOP)
        assert_type(transfer.publish("shop", {"msg": "x"}, metadata={"host": "web-1"}), Confirmation)
        assert_type(transfer.flush(), bool)
        transfer.publish("shop")  # type: ignore[call-arg]


def handlers() -> None:
    """Use the handler."""
    handler = TransferHandler("shop", level=logging.INFO, context=lambda: {"request": 1}, creds="/etc/creds")
    logging.getLogger().addHandler(handler)
    assert_type(handler.wait(1.0), bool)
    TransferHandler()  # type: ignore[call-arg]
    CollectionSpec(kind="other")  # type: ignore[arg-type]


async def tested(recording_transfer: RecordingTransfer) -> None:
    """Use what is there for tests."""
    await recording_transfer.publish("shop", {"msg": "x"})
    assert_type(recording_transfer.entries("shop"), list[Recorded])
    logging.getLogger().addHandler(RecordingHandler("shop"))
