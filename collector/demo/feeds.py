"""The entries of the demo: live logs of servers and replicas, and orders of a shop. Each publish is confirmed."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from anyio import Event, create_task_group, current_time, move_on_after, sleep_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from collector.demo.ledger import Ledger
    from transfer import Transfer

_LOOK = 0.05
_TICK = 0.02
_CONFIRM_TIMEOUT = 30.0


class Publisher:
    """Publishes entries one by one; the ledger has each entry that JetStream has confirmed."""

    def __init__(self, transfer: Transfer, ledger: Ledger) -> None:
        self._transfer = transfer
        self._ledger = ledger

    async def publish(self, key: str, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Return when the entry is confirmed."""
        confirmation = await self._transfer.publish(key, data, metadata=metadata, timeout=_CONFIRM_TIMEOUT)
        self._ledger.confirm(key, confirmation.id)


class LogFile:
    """A log that grows, read from its first line on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def lines(self) -> list[str]:
        """Return the lines that were completed since the last call, without waiting."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._read += len(complete) + len(newline)
        return complete.decode(errors="replace").split("\n") if newline else []


class LogFeed:
    """Publishes the lines of one log as they are written: JSON objects as they are, other lines as `msg`."""

    def __init__(self, key: str, source: str, path: Path, publisher: Publisher) -> None:
        self.name = f"log of {source}"
        self._key = key
        self._metadata = {"source": source, "file": path.name}
        self._log = LogFile(path)
        self._publisher = publisher

    async def run(self, stopping: Event) -> None:
        """Follow the log until asked to stop; all lines that were written before are published."""
        last = False
        while not last:
            last = stopping.is_set()
            for line in self._log.lines():
                await self._publisher.publish(self._key, _data(line), self._metadata)
            with move_on_after(_LOOK):
                await stopping.wait()


def _data(line: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        return {"msg": line}
    return data if isinstance(data, dict) else {"msg": line}


class Shop:
    """An application that publishes `entries` orders, some at the same time, at most `rate` a second."""

    name = "shop"

    def __init__(self, key: str, publisher: Publisher, entries: int, rate: int) -> None:
        self._key = key
        self._publisher = publisher
        self._entries = entries
        self._at_once = round(rate * _TICK)
        self.halfway = Event()
        self.finished = Event()

    async def run(self) -> None:
        """Publish all orders, and return when they are confirmed."""
        orders = _orders(self._entries)
        for start in range(0, self._entries, self._at_once):
            tick = current_time() + _TICK
            async with create_task_group() as group:
                for number in range(start, min(start + self._at_once, self._entries)):
                    metadata = {"service": "shop", "host": f"web-{number % 3 + 1}", "number": number}
                    group.start_soon(self._publisher.publish, self._key, next(orders), metadata)
            if start >= self._entries // 2:
                self.halfway.set()
            await sleep_until(tick)
        self.finished.set()


def _orders(count: int) -> Iterator[dict[str, Any]]:
    """Make order events as a shop logs them: mostly dull, now and then slow or broken."""
    chance = random.Random(3)  # noqa: S311 - the same shop every day
    events = ("cart changed", "order placed", "payment accepted", "order shipped")
    for number in range(count):
        entry = {
            "level": "info",
            "msg": chance.choice(events),
            "order": f"A-{100_000 + number // 4}",
            "customer": {"id": chance.randrange(10_000), "country": chance.choice(("DE", "FR", "JP", "US"))},
            "amount": round(chance.lognormvariate(3.5, 1), 2),
            "milliseconds": round(chance.lognormvariate(3, 0.8), 1),
        }
        if number % 97 == 0:
            refused = {"type": "PaymentRefused", "message": "card expired", "stack": "in pay()\n  in charge()"}
            entry |= {"level": "error", "msg": "payment refused", "exception": refused}
        yield entry
