"""A replica, a publisher and MongoDB's own eyes, in a namespace of the test."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from collector.local import Replica
from tests.integration.ancestor import Ancestor, ancestor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo.database import Database

    from collector.local import Mongod, NatsServer


@pytest.fixture
def start_replica(namespace: str, nats_server: NatsServer, mongod: Mongod) -> Iterator[Callable[..., Replica]]:
    """Start a replica against the common servers, or against others; it ends with the test."""
    with ExitStack() as stack:

        def start(nats: NatsServer = nats_server, mongo: Mongod = mongod, **settings: str) -> Replica:
            folder = stack.enter_context(TemporaryDirectory(prefix="replica-"))
            return stack.enter_context(Replica(Path(folder), namespace, nats, mongo, settings))

        yield start


@pytest.fixture
def database(namespace: str, mongod: Mongod) -> Iterator[Database[dict[str, Any]]]:
    """Give the database of the namespace."""
    with MongoClient[dict[str, Any]](mongod.url, tz_aware=True) as client:
        yield client[namespace]


@pytest.fixture
async def go(namespace: str, nats_server: NatsServer) -> AsyncIterator[Ancestor]:
    """Give the Go system's publisher."""
    async with ancestor(nats_server.url, namespace) as publisher:
        yield publisher
