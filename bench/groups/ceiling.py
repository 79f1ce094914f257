"""The ceiling: what the two servers do alone.

mongod: insert commands of 1,000 documents that were encoded beforehand, majority writes, the best of 2, 4 and 8 in
flight from threads. nats-server: one pull subscription on plain sockets that acknowledges everything it is given.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

from bson.raw_bson import RawBSONDocument

from bench import declaring
from bench.backlog import publish
from bench.entries import Form, Traffic, documents
from bench.errors import NotAsExpected
from bench.waiting import until_empty, waiting
from bench.wire import wired

if TYPE_CHECKING:
    from typing import Literal

    from bench.stand import Stand
    from bench.wire import Wire

    Kind = Literal["plain", "timeseries"]

NAME = "ceiling"
_COMMAND = 1000
_FLIGHTS = (2, 4, 8)
_PULL = 5000
_KEY = "bare"


def measure(stand: Stand) -> None:
    """Measure mongod for both kinds of collection, and nats-server."""
    for _ in stand.rounds():
        measure_round(stand)


def measure_round(stand: Stand) -> None:
    """Measure everything once."""
    mongod_takes(stand, "plain", 300, stand.plan.backlog)
    mongod_takes(stand, "timeseries", 300, stand.plan.backlog)
    barrier_takes(stand)
    nats_delivers(stand)


def barrier_takes(stand: Stand) -> None:
    """Measure the write that is waited for after a repeated one (docs/timeseries.md, rule 11)."""
    stand.progress.doing("a barrier")
    with stand.space() as space:
        claims = space.database["claims"]
        claims.insert_one({"_id": _KEY})
        taken = []
        for _ in range(stand.plan.floor_inserts):
            started = time.perf_counter()
            claims.update_one({"_id": _KEY}, {"$inc": {"barriers": 1}})
            taken.append(time.perf_counter() - started)
    stand.figures.add(NAME, "a barrier", {"median ms": median(taken) * 1000})


def mongod_takes(stand: Stand, kind: Kind, size: int, count: int) -> float:
    """Return how many documents a second this mongod takes."""
    stand.progress.doing(f"ceiling of mongod, {kind}, {size} bytes")
    batches = _batches(size, count)
    best, cost = 0.0, 0.0
    for flights in _FLIGHTS:
        meter = stand.meter([])
        seconds = _insert(stand, kind, batches, flights)
        used = meter.used()["mongod"]
        if count / seconds > best:
            best, cost = count / seconds, used * 1e6 / count
    stand.figures.add(NAME, f"mongod {kind} {size} B", {"entries/s": best, "mongod µs": cost})
    return best


@lru_cache(maxsize=1)
def _batches(size: int, count: int) -> list[list[RawBSONDocument]]:
    encoded = map(RawBSONDocument, documents(size, count))
    return [list(itertools.islice(encoded, _COMMAND)) for _ in range(-(-count // _COMMAND))]


def _insert(stand: Stand, kind: Kind, batches: list[list[RawBSONDocument]], flights: int) -> float:
    """Insert everything into a new collection and return how long it took."""
    with stand.space() as space:
        options = {"timeField": "timestamp", "metaField": "metadata"} if kind == "timeseries" else None
        space.database.create_collection("ceiling", timeseries=options)

        def insert(batch: list[RawBSONDocument]) -> None:
            command = {"insert": "ceiling", "documents": batch, "ordered": False, "writeConcern": {"w": "majority"}}
            reply = space.database.command(command)
            if reply["n"] != len(batch):
                raise NotAsExpected(f"expected mongod to take {len(batch)} documents, got {reply}")

        with ThreadPoolExecutor(flights) as pool:
            started = time.perf_counter()
            for _ in pool.map(insert, batches):
                pass
            return time.perf_counter() - started


def nats_delivers(stand: Stand) -> None:
    """Measure what a pull subscription is given that does nothing but acknowledge."""
    count = stand.plan.bare_messages
    stand.progress.doing("ceiling of nats-server")
    with stand.space() as space, wired(stand.nats.port) as wire:
        declaring.make_streams(stand.nats, space, [_KEY])
        publish(stand.nats.port, Traffic(Form.GO, 300), [space.names.subject(_KEY)], count)
        if waiting(wire, space, [_KEY]) != [count]:
            raise NotAsExpected(f"expected a backlog of {count}, got {waiting(wire, space, [_KEY])}")
        declaring.make_durable(stand.nats, space, _KEY)
        meter, started = stand.meter([]), time.perf_counter()
        _pull(wire, f"{space.names.stream(_KEY)}.{space.names.durable(_KEY)}", count)
        seconds = until_empty(wire, space, [_KEY], 0.002) - started
        used = meter.used()["nats-server"]
    measured = {"entries/s": count / seconds, "nats-server µs": used * 1e6 / count}
    stand.figures.add(NAME, "nats-server, bare pull and ack", measured)


def _pull(wire: Wire, durable: str, count: int) -> None:
    """Receive that many messages and acknowledge each; the acks of one read leave together."""
    payload = b'{"batch":%d}' % _PULL
    ask = b"PUB $JS.API.CONSUMER.MSG.NEXT.%b %b %d\r\n%b\r\n"
    asked = received = 0
    while received < count:
        if asked - received < _PULL:
            wire.send(ask % (durable.encode(), wire.next_reply(), len(payload), payload))
            asked += _PULL
        replies = [message.reply for message in wire.receive() if message.reply]
        wire.send(b"".join([b"PUB %b 4\r\n+ACK\r\n" % reply for reply in replies]))
        received += len(replies)
