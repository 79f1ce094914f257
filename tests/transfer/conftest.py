"""Fixtures: the collection and the environment of `transfer tail`; senders, and the connection that they have."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

import transfer.background.thread
from tests.transfer.fake_nats import Nats
from tests.transfer.tailing import begin
from transfer.background.sender import Sender
from transfer.background.thread import SendingThread
from transfer.options import read_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pymongo.collection import Collection

    from collector.local import Mongod


@pytest.fixture
def collection(mongod: Mongod, namespace: str) -> Iterator[Collection[dict[str, Any]]]:
    begin()
    with MongoClient[dict[str, Any]](mongod.url, tz_aware=True) as client:
        yield client[namespace]["app_logs"]


@pytest.fixture
def environ(mongod: Mongod, namespace: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "NO_COLOR"))}
    return kept | {"DATABASE": mongod.url, "NAMESPACE": namespace, "TERM": "xterm"}


@pytest.fixture
def nats(monkeypatch: pytest.MonkeyPatch) -> Nats:
    """Give what all threads of the test are connected to."""
    fake: Any = Nats()

    async def keep_connected(self: SendingThread) -> None:
        self._connection, self._jetstream = fake, fake
        await asyncio.Event().wait()

    monkeypatch.setattr(SendingThread, "_keep_connected", keep_connected)
    monkeypatch.setattr(transfer.background.thread, "confirm", fake.take)
    return fake  # type: ignore[no-any-return]


@pytest.fixture
def sender(nats: Nats) -> Iterator[Callable[..., Sender]]:
    """Make senders, and end them with the test."""
    made: list[Sender] = []

    def make(**options: Any) -> Sender:
        made.append(one := Sender(*read_options("nats://127.0.0.1:1", "beta", **options)))
        return one

    yield make
    for one in made:
        one.close(0)
