"""The command, with servers or without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.letters import NO_NATS, Command

if TYPE_CHECKING:
    from collector.local import Mongod, NatsServer


@pytest.fixture
def command(namespace: str, mongod: Mongod, nats_server: NatsServer) -> Command:
    return Command(namespace, mongod, nats_server.url)


@pytest.fixture
def offline(namespace: str, mongod: Mongod) -> Command:
    """Give the command where no NATS answers."""
    return Command(namespace, mongod, NO_NATS)
