"""`collector demo`: the order in which servers and replicas are opened, the end, and the exit status."""

from __future__ import annotations

import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click
import nats
from anyio import CancelScope, current_time
from nats import errors as nats_errors

from collector.demo.display import Display
from collector.demo.found import Lookup
from collector.demo.replica import Replicas
from collector.demo.report import Report
from collector.demo.scenario import NAMESPACE, SETTINGS, NotAsPromised, Scenario, Stand
from collector.demo.shell import called
from collector.demo.signals import in_threads, until_signal
from collector.errors import CollectorError, leaves
from collector.jetstream.connection import close
from collector.local import local_servers
from collector.mongodb.calls import database_of, open_mongo
from transfer import Transfer, TransferError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client

_DEADLINE = 90.0
_INTRODUCTION = """\
Transfer & Collector on real servers in a temporary folder: live logs and orders
of a shop go through NATS JetStream into MongoDB, and the orders into files of an
archive too. Each entry whose publish was confirmed has to be there once, whatever
happens meanwhile.
"""


def run_demo(*, as_json: bool) -> int:
    """Run the demo and return its exit status: 0 when each confirmed entry arrived once, where it belongs."""
    display = Display(sys.stderr if as_json else sys.stdout)
    failures: list[BaseException] = []
    ended: Report | signal.Signals | None = None
    try:
        ended = anyio.run(until_signal, partial(_play, display))
    except* (CollectorError, TransferError, nats_errors.Error, OSError) as group:
        failures += leaves(group)
    match ended:
        case Report():
            click.echo(ended.json() if as_json else "\n".join(["", *ended.lines()]))
            if ended.good:
                display.write(f"\nNext: {called('collector')} local keeps servers and a replica up to try things out.")
            return 0 if ended.good else 1
        case signal.Signals():
            display.write(f"Ended by {ended.name}. All that was started is gone.")
            return 128 + ended
        case None:
            display.write("\n".join(["", *(f"collector: {failure}" for failure in failures)]))
            return 1


async def _play(display: Display) -> Report:
    started = current_time()
    display.write(_INTRODUCTION)
    async with AsyncExitStack() as stack:
        with display.stage("start nats-server and mongod"):
            servers = await stack.enter_async_context(in_threads(local_servers()))
        connection = await stack.enter_async_context(_connected(servers.nats.url))
        mongo = await stack.enter_async_context(open_mongo(servers.mongod.url))
        archive = servers.folder / "archive"
        archive.mkdir()
        replicas = stack.enter_context(Replicas(NAMESPACE, servers, {**SETTINGS, "COLLECTOR_ARCHIVE": str(archive)}))
        transfer = Transfer(connection.jetstream(), namespace=NAMESPACE)
        lookup = Lookup(database_of(mongo, transfer.names.database), transfer.names, archive)
        scenario = Scenario(Stand(servers, replicas, transfer, connection.jetstream(), lookup, display))
        with CancelScope(deadline=started + _DEADLINE) as patience:
            await scenario.play()
        if patience.cancelled_caught:
            hung = f"it hung at {display.doing!r}, and\n{replicas.log_ends()}"
            raise NotAsPromised(f"expected the demo to end within {_DEADLINE:.0f} s, but {hung}")
        ledger, found = scenario.ledger, await lookup.find(scenario.ledger.keys)
        return Report(ledger.compare(found), ledger.letters(found), current_time() - started, replicas.log_ends())


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Client]:
    """Connect without any setting of the environment."""
    connection = await nats.connect(url, name="demo")
    try:
        yield connection
    finally:
        await close(connection)
