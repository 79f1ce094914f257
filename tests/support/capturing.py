"""Streams that are captured, stores that fail, and what is in an archive in the end."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import zstandard
from anyio import sleep

from collector.errors import StoreUnavailable
from tests.support.pulling import connected
from tests.support.waiting import until, until_empty
from transfer.jetstream.streams import stream_state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.js import JetStreamContext

    from collector.archive.running import Running
    from collector.archive.stores import Store
    from collector.local import NatsServer

DURABLE = "cap"
RETENTIONS = ["limits", "workqueue", "interest"]
_HOUR = 3600 * 1_000_000_000


class Stream:
    """A stream with a durable to capture it through, unless its retention is `limits`."""

    def __init__(self, jetstream: JetStreamContext, name: str, retention: str) -> None:
        self.jetstream = jetstream
        self.name = name
        self.durable = "" if retention == "limits" else DURABLE
        self.published = 0

    async def publish(self, count: int, timeout: float = 30) -> None:
        for _ in range(count):
            self.published += 1
            subject = f"{self.name}.k{self.published % 3}"
            await self.jetstream.publish(subject, b'{"n":%d}' % self.published, timeout=timeout)

    async def created(self) -> str:
        """Return when the stream was made, as the server writes it."""
        return (await stream_state(self.jetstream, self.name)).created

    async def left(self) -> int:
        return (await self.jetstream.stream_info(self.name)).state.messages

    async def until_empty(self) -> None:
        """Wait until nothing is left of a stream that is read with acks."""
        if self.durable:
            await until_empty(self.jetstream, self.name)


@asynccontextmanager
async def captured(server: NatsServer, name: str, retention: str, **config: Any) -> AsyncIterator[Stream]:
    """Make a stream, and remove it afterwards."""
    async with connected(server) as connection:
        jetstream = connection.jetstream(timeout=30)
        await jetstream.add_stream(name=name, subjects=[f"{name}.>"], retention=retention)
        stream = Stream(jetstream, name, retention)
        if stream.durable:
            await add_durable(jetstream, name, DURABLE, **config)
        try:
            yield stream
        finally:
            await jetstream.delete_stream(name)


async def add_durable(jetstream: JetStreamContext, stream: str, name: str, **config: Any) -> None:
    wanted = {"durable_name": name, "ack_policy": "explicit", "max_ack_pending": 100_000, "ack_wait": _HOUR, **config}
    body = msgspec.json.encode({"stream_name": stream, "config": wanted})
    answer = await jetstream._nc.request(f"$JS.API.CONSUMER.CREATE.{stream}.{name}", body, timeout=30)
    assert b'"error"' not in answer.data, answer.data


async def until_archived(running: Running, count: int, seconds: float = 10) -> None:
    await until(lambda: running.facts().archived >= count, seconds)


def paths(root: Path, pattern: str) -> list[Path]:
    return sorted(root.rglob(pattern))


def lines(root: Path) -> list[dict[str, Any]]:
    """Return the rows of all blocks of NDJSON in an archive."""
    inflate = zstandard.ZstdDecompressor()
    blocks = [inflate.decompressobj().decompress(path.read_bytes()) for path in root.rglob("*.ndjson.zst")]
    return [msgspec.json.decode(line) for block in blocks for line in block.splitlines()]


def blocks_of(root: Path) -> Counter[int]:
    """Return in how many rows and dead letters each message is, by its sequence."""
    dead = [msgspec.json.decode(line) for path in root.glob("_dead/*/*") for line in path.read_bytes().splitlines()]
    return Counter([*(line["_seq"] for line in lines(root)), *(letter["sequence"] for letter in dead)])


def each_once(count: int) -> Counter[int]:
    return Counter(range(1, count + 1))


class Troubled:
    """A store that often fails, answers late, or does its work and loses the answer."""

    def __init__(self, store: Store, seed: int) -> None:
        self.where = store.where
        self.share = 0.0
        """How many calls fail, and how many answers of the others are lost."""
        self.failures: Counter[str] = Counter()
        self._store = store
        self._random = random.Random(seed)  # noqa: S311 - the same failures each time

    async def create(self, path: str, data: bytes) -> bool:
        await self._fail_before()
        created = await self._store.create(path, data)
        if self._random.random() < self.share:
            self.failures["answer"] += 1
            raise StoreUnavailable("the answer is lost", ambiguous=True)
        return created

    async def read(self, path: str) -> bytes:
        await self._fail_before()
        return await self._store.read(path)

    async def after(self, prefix: str, path: str) -> list[str]:
        await self._fail_before()
        return await self._store.after(prefix, path)

    async def copy(self, path: str, file: BinaryIO) -> None:
        await self._store.copy(path, file)

    async def _fail_before(self) -> None:
        await sleep(self._random.random() * 0.02)
        if self._random.random() < self.share:
            self.failures["request"] += 1
            raise StoreUnavailable("out of order")


class Barred:
    """A store that keeps records, and takes no block."""

    def __init__(self, store: Store) -> None:
        self.where = store.where
        self.refused = 0
        self._store = store
        self.read, self.after, self.copy = store.read, store.after, store.copy

    async def create(self, path: str, data: bytes) -> bool:
        if not path.startswith("_archive/"):
            self.refused += 1
            raise StoreUnavailable("no block is taken")
        return await self._store.create(path, data)
