"""The client: entries a second and CPU time in the caller, beside nats-py alone with the same bytes.

There is no collector in it. CPU time is that of this process. A bundle is a hundred entries that our client's encoding
makes and nats-py publishes; what `send` makes of entries is measured in `sending.py`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import nats
from anyio import create_task_group

from bench import declaring
from bench.entries import BUNDLED, Form, Traffic, entry_data
from transfer import Transfer
from transfer.entries.entry import encode_entry, new_id
from transfer.wire import BUNDLE, CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from nats.js import JetStreamContext

    from bench.stand import Space, Stand

    Publish = Callable[[int], Coroutine[Any, Any, object]]
    """Publishes the message of a number, and returns when JetStream has it."""

NAME = "client"
_KEY = "published"
_AT_ONCE = 256
"""Publishes that are under way at a time."""


def measure(stand: Stand) -> None:
    """Measure each way in each round."""
    for _ in stand.rounds():
        for what, (way, entries) in _WAYS.items():
            with stand.space() as space:
                declaring.make_streams(stand.nats, space, [_KEY])
                anyio.run(_measure, stand, space, what, way, entries)


async def _measure(
    stand: Stand, space: Space, what: str, way: Callable[[JetStreamContext, Space], Publish], entries: int
) -> None:
    async with await nats.connect(stand.nats.url) as connection:
        publish = way(connection.jetstream(), space)
        for how, count, run in (
            ("one by one", stand.plan.published, _one_by_one),
            (f"{_AT_ONCE} at once", stand.plan.published_at_once, _at_once),
        ):
            stand.progress.doing(f"{what}, {how}")
            started, cpu = time.perf_counter(), time.process_time()
            await run(publish, count)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
            measured = {"entries/s": count * entries / seconds, "µs in the caller": cpu * 1e6 / count / entries}
            stand.figures.add(NAME, f"{what}, {how}", measured)


async def _one_by_one(publish: Publish, count: int) -> None:
    for number in range(count):
        await publish(number)


async def _at_once(publish: Publish, count: int) -> None:
    numbers = iter(range(count))

    async def publish_some() -> None:
        for number in numbers:
            await publish(number)

    async with create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(publish_some)


def _of_transfer(jetstream: JetStreamContext, space: Space) -> Publish:
    transfer = Transfer(jetstream, namespace=space.names.namespace)
    metadata = {"host": "web-1"}

    async def publish(number: int) -> None:
        await transfer.publish(_KEY, entry_data(300, number), metadata=metadata)

    return publish


def _of_nats(jetstream: JetStreamContext, space: Space) -> Publish:
    subject, traffic = space.names.subject(_KEY), Traffic(Form.GO, 300)

    async def publish(number: int) -> None:
        await jetstream.publish(subject, traffic.body(number))

    return publish


def _of_bundles(jetstream: JetStreamContext, space: Space) -> Publish:
    subject, metadata = space.names.subject(_KEY), {"host": "web-1"}
    header = b"\xdc" + BUNDLED.to_bytes(2)

    async def publish(number: int) -> None:
        data = (entry_data(300, one) for one in range(number, number + BUNDLED))
        entries = [encode_entry(one, time.time_ns(), metadata, new_id()) for one in data]
        await jetstream.publish(subject, header + b"".join(entries), headers={CONTENT_TYPE: BUNDLE})

    return publish


_WAYS: dict[str, tuple[Callable[[JetStreamContext, Space], Publish], int]] = {
    "nats-py publish": (_of_nats, 1),
    "transfer publish": (_of_transfer, 1),
    f"bundle of {BUNDLED}": (_of_bundles, BUNDLED),
}
"""Each with the entries in a message."""
