"""A check of the test's namespace, and a namespace with one logger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.checking import Check
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collector.local import Mongod, NatsServer
    from tests.support.ancestor import Ancestor


@pytest.fixture
def check(namespace: str, nats_server: NatsServer, mongod: Mongod) -> Check:
    return Check(namespace, nats_server, mongod)


@pytest.fixture
async def declared(go: Ancestor) -> Ancestor:
    """Give a namespace with a bucket and one logger, `system`."""
    await ensure_bucket(go.jetstream, Names(go.namespace))
    await go.declare("system")
    return go
