"""Fixtures of the tests of `transfer tail`: the collection of a logger, and the environment of the command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from tests.transfer.tailing import begin

if TYPE_CHECKING:
    from collections.abc import Iterator

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
