"""Waiting for what JetStream and MongoDB show. Everything ends: what does not come in time is `NotAsExpected`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.errors import NotAsExpected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.stand import Space
    from bench.wire import Wire
    from collector.local import Replica

_PATIENCE = 600.0
_AT_ONCE = 20


def until(condition: Callable[[], bool], what: str, period: float, patience: float = _PATIENCE) -> float:
    """Look every `period` seconds until it is so; return when that was, on the clock of `time.perf_counter`."""
    deadline = time.perf_counter() + patience
    while not condition():
        if time.perf_counter() > deadline:
            raise NotAsExpected(f"expected {what} within {patience:.0f} s")
        time.sleep(period)
    return time.perf_counter()


def waiting(wire: Wire, space: Space, keys: Sequence[str]) -> list[int]:
    """Return how many messages are in the stream of each logger."""
    infos = wire.requests([f"$JS.API.STREAM.INFO.{space.names.stream(key)}" for key in keys])
    return [info["state"]["messages"] for info in infos]


def until_delivered(wire: Wire, space: Space, key: str, period: float = 0.002) -> float:
    """Wait until the durable of a logger has delivered its first message."""

    def delivered() -> bool:
        info = wire.request(_durable(space, key))
        return "delivered" in info and bool(info["delivered"]["consumer_seq"])

    return until(delivered, f"a first delivery to {key}", period)


def until_consuming(wire: Wire, space: Space, keys: Sequence[str], period: float = 0.1) -> float:
    """Wait until every durable is there, with a pull request that waits for messages."""
    return _until_all(
        keys,
        lambda left: [bool(info.get("num_waiting")) for info in wire.requests([_durable(space, k) for k in left])],
        "all loggers to be consumed",
        period,
    )


def until_acquainted(replicas: Sequence[Replica]) -> None:
    """Wait until each of several replicas knows all of them, and so the homes; replicas of before had no homes."""
    for replica in replicas:
        known = len(replicas) if len(replicas) > 1 and "replicas" in replica.status else 0
        until(lambda: len(replica.status.get("replicas", ())) >= known, f"{known} replicas to know each other", 0.1)  # noqa: B023


def until_empty(wire: Wire, space: Space, keys: Sequence[str], period: float = 0.01) -> float:
    """Wait until every message of every stream is acknowledged, which means stored."""
    return _until_all(keys, lambda left: [not n for n in waiting(wire, space, left)], "all streams to be empty", period)


def _until_all(keys: Sequence[str], look: Callable[[list[str]], list[bool]], what: str, period: float) -> float:
    """Walk through the loggers, a few at a time, and wait at those for which it is not so yet.

    Where it has come to be so it stays so; thus the looks cost next to nothing, however many loggers there are.
    """
    left = list(keys)

    def done() -> bool:
        while left:
            some = left[:_AT_ONCE]
            still = [key for key, there in zip(some, look(some), strict=True) if not there]
            left[:_AT_ONCE] = still
            if still:
                return False
        return True

    try:
        return until(done, what, period)
    except NotAsExpected as exc:
        raise NotAsExpected(f"{exc}, but {len(left)} of {len(keys)} loggers were left, first {left[0]}") from None


def _durable(space: Space, key: str) -> str:
    return f"$JS.API.CONSUMER.INFO.{space.names.stream(key)}.{space.names.durable(key)}"
