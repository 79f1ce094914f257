"""A consumer that runs between a scripted JetStream and the batcher's mailbox."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyio import Event, create_memory_object_stream, create_task_group, fail_after

from collector.actors.consumer import Consumer
from collector.actors.requests import PullLimits
from collector.flow.batching import HandedOn
from collector.flow.budget import Budget
from collector.jetstream.connection import Reconnects
from collector.settings import Settings
from collector.sinks import PASS_ALL, Admission
from tests.support.fakes import (
    FakeLink,
    FakeSource,
    Reports,
    settled,
)
from tests.support.moving import ENVIRON, moving, shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

    from collector.model import Decoded


ENVIRONMENT = {
    **ENVIRON,
    "COLLECTOR_BATCH_ENTRIES": "50",
    "COLLECTOR_WRITES": "4",
    "COLLECTOR_BATCH_BYTES": "1MiB",
}
SETTINGS = Settings.read({**ENVIRONMENT, "COLLECTOR_BATCH_AGE": "0"})
ROOM = PullLimits(messages=SETTINGS.most_held, request_bytes=SETTINGS.batch_bytes, batch=SETTINGS.batch_entries)


def sequences(several: list[Decoded]) -> list[int]:
    return [delivery.sequence for one in several for delivery in one.deliveries]


class Scene:
    """A consumer that runs."""

    def __init__(
        self,
        source: FakeSource,
        mailbox: float,
        budget: Budget,
        admission: Admission,
        heartbeat: float,
        settings: Settings = SETTINGS,
    ) -> None:
        self.source, self.link, self.reports = source, FakeLink(), Reports()
        self.reconnects, self.stopping, self.returned = Reconnects(), Event(), Event()
        self.budget = budget
        of_replica = shared(self.link, self.reports, self.reconnects, source, budget=budget, settings=settings)
        self.levels = of_replica.levels
        whole = moving(of_replica, admission=admission, heartbeat=heartbeat)
        self.pull, self.in_hand, self.accounts = whole.pull, whole.in_hand, whole.accounts
        self.requests = whole.requests
        outbox, self.mailbox = create_memory_object_stream[HandedOn](mailbox)
        self.group: TaskGroup
        self.consumer = Consumer(whole, outbox)

    async def run(self) -> None:
        await self.consumer.run(self.stopping)
        self.returned.set()

    async def came(self) -> list[int]:
        """Take what is in the mailbox."""
        await settled()
        found = []
        while self.mailbox.statistics().current_buffer_used or self.mailbox.statistics().tasks_waiting_send:
            found += sequences((await self.mailbox.receive()).decoded)
        return found

    @property
    def asked(self) -> list[tuple[int, int]]:
        return [(wanted["batch"], wanted["max_bytes"]) for _, wanted in self.link.requests]


@asynccontextmanager
async def playing(
    source: FakeSource | None = None,
    *,
    mailbox: float = math.inf,
    limit: int = 16 * 1024 * 1024,
    heartbeat: float = 60.0,
    horizon: Admission = PASS_ALL,
    age: str = "0",
) -> AsyncIterator[Scene]:
    settings = Settings.read({**ENVIRONMENT, "COLLECTOR_BATCH_AGE": age})
    scene = Scene(source or FakeSource(), mailbox, Budget(limit), horizon, heartbeat, settings)
    with fail_after(60):
        async with scene.mailbox, create_task_group() as scene.group:
            scene.group.start_soon(scene.run)
            while not scene.link.requests:
                await scene.link.asked.wait()
            yield scene
            scene.stopping.set()
            scene.pull.wake()
            if not scene.group.cancel_scope.cancel_called:
                await scene.returned.wait()
            scene.group.cancel_scope.cancel()
