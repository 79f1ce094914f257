"""What an entry costs, counted in calls: the same on every machine, however busy it is.

A whole pipeline runs, from the bytes that NATS sends to the bytes that MongoDB and NATS are sent; only the two sockets
are missing. A call of a function, of Python's or of C's, costs some 50 ns, and little of our own code is none.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import bson
import pytest
from anyio import Event, Semaphore, create_task_group, fail_after, lowlevel

from bench.entries import Form, Traffic
from collector.actors.mongo_destinations import MongoDestinations
from collector.actors.moving import Shared
from collector.actors.pipeline import Pipeline
from collector.events import BatchSettled
from collector.flow.batch_age import BatchAge
from collector.flow.budget import Budget
from collector.jetstream.connection import NatsConnection, Reconnects
from collector.jetstream.link import joined
from collector.jetstream.parser import BulkParser
from collector.settings import Settings
from collector.telemetry.metrics import Metrics
from collector.telemetry.status import Status
from tests.support.fakes import ATTACHED, KEY, STREAM, FakeCatalog, FakeLink, FakeSource
from transfer.names import Names
from transfer.wire import LoggerSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from collector.events import Event as Happening
    from collector.jetstream.parser import Receive

ENTRIES = 4000
READ = 32 * 1024
"""What nats-py reads at a time."""
SID = 7
MOST = {Form.GO: 43, Form.CLIENT: 47, Form.JSON: 53, Form.BUNDLE: 18}
"""Calls for each entry, a tenth more than were counted: whoever needs more says why."""


class MemoryLink(FakeLink):
    """A connection whose bytes are fed to the real parser, and whose answers are made and thrown away."""

    def __init__(self) -> None:
        super().__init__()
        nobody: Any = None
        self.parser = BulkParser(nobody)

    async def subscribe(self, subject: str, receive: Receive) -> FakeLink:
        self.parser.receivers[SID] = receive
        return await super().subscribe(subject, receive)

    def answer_at_once(self, answers: Sequence[tuple[str, bytes]]) -> int:
        joined(answers)
        return 0


class MemoryDatabase:
    """A database that takes everything, and encodes it as pymongo does."""

    @property
    def client(self) -> MemoryDatabase:
        return self

    async def command(self, command: dict[str, Any], **_: Any) -> dict[str, Any]:
        bson.encode(command)
        return {"ok": 1, "n": len(command["documents"])}


class Scene:
    """A pipeline that runs, and counts what it has settled."""

    def __init__(self) -> None:
        environ = {"NAMESPACE": "beta", "NATS_HOSTS": "nats://127.0.0.1", "DATABASE": "mongodb://127.0.0.1"}
        settings = Settings.read(environ)
        self.link, self.metrics, self.status = MemoryLink(), Metrics("beta", "0", 1), Status("beta", "0")
        self.settled, self.all_settled = 0, Event()
        other: Any = type("Client", (), {"max_payload": 1 << 20, "new_inbox": lambda _: "_INBOX.1"})()
        database: Any = MemoryDatabase()
        catalog: Any = FakeCatalog(timeseries=False)
        nothing: Any = None
        destinations = MongoDestinations(
            names=Names("beta"),
            settings=settings,
            database=database,
            catalog=catalog,
            claims=nothing,
            owners=nothing,
            report=self.report,
            write_slots=Semaphore(64),
        )
        shared = Shared(
            settings=settings,
            nats=NatsConnection(other, self.link, Reconnects(), Event()),
            sources=FakeSource(ATTACHED),
            destinations=destinations,
            budget=Budget(settings.buffer_bytes),
            batch_age=BatchAge(0.1, 1.0),
            report=self.report,
        )
        self.pipeline = Pipeline(LoggerSpec(KEY), shared)

    def report(self, event: Happening) -> None:
        self.metrics.observe(event)
        self.status.observe(event)
        if isinstance(event, BatchSettled):
            self.settled += event.written
            if self.settled >= ENTRIES:
                self.all_settled.set()


def wire(form: Form) -> bytes:
    """Return what nats-server sends."""
    traffic, frames = Traffic(form, 300), []
    for number in range(ENTRIES // traffic.entries_a_message):
        headers, body = traffic.headers(number), traffic.body(number)
        reply = f"$JS.ACK.{STREAM}.{STREAM}.1.{number + 1}.{number + 1}.1764092000123456789.{ENTRIES - number}"
        sizes = f"{len(headers)} {len(headers) + len(body)}" if headers else f"{len(body)}"
        frames.append(f"{'H' if headers else ''}MSG beta.logs.{KEY} {SID} {reply} {sizes}\r\n".encode())
        frames += [headers, body, b"\r\n"]
    return b"".join(frames)


async def calls_for_each_entry(form: Form) -> float:
    scene, data, calls = Scene(), wire(form), 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    with fail_after(30):
        async with create_task_group() as group:
            stopping = Event()
            group.start_soon(scene.pipeline.run, stopping)
            while not scene.link.requests:
                await scene.link.asked.wait()
            sys.setprofile(count)
            try:
                for start in range(0, len(data), READ):
                    await scene.link.parser.parse(data[start : start + READ])
                    await lowlevel.checkpoint()
                await scene.all_settled.wait()
            finally:
                sys.setprofile(None)
            stopping.set()
    assert scene.settled == ENTRIES
    return calls / ENTRIES


@pytest.mark.parametrize("form", MOST)
async def test_an_entry_costs_no_more_calls_than_it_did(form: Form) -> None:
    found = await calls_for_each_entry(form)
    print(f"{form}: {found:.1f} calls for each entry")  # noqa: T201 - figures
    assert found <= MOST[form]
