"""Replicas that come and go as somebody wants, and the load on them, on real servers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from bench import declaring
from bench.autoscale.load import Load, Phase, Shape
from bench.autoscale.replicas import Replicas, reading
from bench.errors import NotAsExpected
from bench.stand import Space
from bench.waiting import until, until_empty, waiting
from bench.wire import wired
from collector.local import LocalServers
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from collector.local import Mongod, NatsServer

PATIENCE = 30.0
SHAPE = Shape([Phase("steady", 1, 500), Phase("on", 0, 1000)])


@pytest.fixture
def servers(nats_server: NatsServer, mongod: Mongod, tmp_path: Path) -> LocalServers:
    return LocalServers(tmp_path, nats_server, mongod)


@pytest.fixture
def space(servers: LocalServers, namespace: str) -> Iterator[Space]:
    with MongoClient[dict[str, Any]](servers.mongod.url) as client:
        made = Space(Names(namespace), client[namespace])
        declaring.declare(servers.nats, made, ["orders"])
        yield made


def publish(servers: LocalServers, space: Space, least: int) -> int:
    load, over = Load(servers.nats.port, space.names.subject("orders"), SHAPE), Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.run, time.perf_counter(), over)
        until(lambda: load.published >= least or running.done(), f"{least} entries to be published", 0.02, PATIENCE)
        over.set()
        running.result()
    return load.published


def test_all_that_a_load_says_is_published_is_in_the_stream(servers: LocalServers, space: Space) -> None:
    published = publish(servers, space, 300)
    with wired(servers.nats.port) as wire:
        assert waiting(wire, space, ["orders"]) == [published]


def test_a_load_that_shares_its_stream_with_somebody_says_so(servers: LocalServers, space: Space) -> None:
    publish(servers, space, 1)
    with pytest.raises(NotAsExpected, match="expected JetStream to have"):
        publish(servers, space, 1)


def test_replicas_are_as_many_as_are_wanted_and_end_with_nothing_left_behind(
    servers: LocalServers, space: Space
) -> None:
    with Replicas(servers, space.names.namespace, {}) as replicas:
        replicas.scale(2)
        assert replicas.wanted == 2
        until(lambda: len(replicas.ready) == 2, "two replicas", 0.05, PATIENCE)
        first, second = replicas.ready
        published = publish(servers, space, 300)
        replicas.scale(1)
        assert (replicas.wanted, replicas.ready) == (1, [first])
        until(lambda: not second.alive, "the younger one to end", 0.05, PATIENCE)
        with wired(servers.nats.port) as wire:
            until_empty(wire, space, ["orders"])
        replicas.finish()
        assert not first.alive
    assert space.database[space.names.collection("orders")].count_documents({}) == published


def test_what_a_replica_does_not_say_is_no_reading(servers: LocalServers, space: Space) -> None:
    with Replicas(servers, space.names.namespace, {}) as replicas:
        replicas.scale(1)
        until(lambda: bool(replicas.ready), "a replica", 0.05, PATIENCE)
        (replica,) = replicas.ready
        assert reading(replica, "collector_build_info{") == 1
        assert reading(replica, "collector_nothing{") is None
    assert reading(replica, "collector_build_info{") is None
