"""A stand on the servers of the session, with sizes that take no time."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from bench.figures import Figures
from bench.plan import QUICK
from bench.progress import Progress
from bench.stand import Stand
from collector.local import LocalServers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from collector.local import Mongod, NatsServer


@pytest.fixture
def stand(tmp_path: Path, nats_server: NatsServer, mongod: Mongod) -> Iterator[Stand]:
    servers = LocalServers(tmp_path, nats_server, mongod)
    with MongoClient[dict[str, Any]](mongod.url, w="majority", retryWrites=False) as client:
        yield Stand(servers, client, replace(QUICK, bare_messages=500), Figures(), Progress(StringIO()), repeat=1)
