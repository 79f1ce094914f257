"""What tests of the whole service wait for."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
from pymongo.errors import OperationFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.js import JetStreamContext
    from pymongo.database import Database

    from collector.local import Replica

_BEING_MADE = 166  # CommandNotSupportedOnView: a plain collection when the read began, a time-series one a moment later
PATIENCE = 6
"""How many times as long a test waits as an idle machine needs: it fails when nothing comes, not when it is late."""


def state(replica: Replica, key: str) -> str:
    """Return the state of a logger, or `none`."""
    return str(replica.status["loggers"].get(key, {}).get("state", "none"))


async def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for what another process does; return how long it took.

    `seconds` is what an idle machine needs at most. The wait fails after `PATIENCE` times as long. Between two looks
    is twice the time of one, and at most a tenth of a second: a look also costs the process that is waited for.
    """
    started = looked = time.monotonic()
    with anyio.fail_after(PATIENCE * seconds):
        while not condition():
            await anyio.sleep(min(max(0.01, 2 * (time.monotonic() - looked)), 0.1))
            looked = time.monotonic()
    return time.monotonic() - started


async def until_empty(jetstream: JetStreamContext, stream: str, seconds: float = 5) -> None:
    """Wait until all that is in a stream is answered for; that it is stored can be seen a moment before."""
    with anyio.fail_after(PATIENCE * seconds):
        while (await jetstream.stream_info(stream)).state.messages:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.01)


def count(database: Database[dict[str, Any]], key: str) -> int:
    """Return how many documents a logger has; none while its time-series collection is being made."""
    try:
        return database[f"{key}_logs"].count_documents({})
    except OperationFailure as exc:
        if exc.code != _BEING_MADE:
            raise
        return 0


async def until_stored(database: Database[dict[str, Any]], keys: Sequence[str], entries: int, seconds: float) -> float:
    """Wait until that many entries are stored; return how long it took.

    The estimate is cheap, but ahead for a moment: it counts the inserts of a group that a duplicate then rolls back.
    """
    logs = [database[f"{key}_logs"] for key in keys]
    took = await until(lambda: sum(log.estimated_document_count() for log in logs) >= entries, seconds)
    return took + await until(lambda: sum(log.count_documents({}) for log in logs) >= entries, seconds)


def numbers(database: Database[dict[str, Any]], *keys: str) -> Counter[int]:
    """Return how often each entry is stored."""
    return Counter(found["number"] for key in keys for found in database[f"{key}_logs"].find({}, {"number": 1}))
