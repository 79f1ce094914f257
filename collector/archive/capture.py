"""A capture: one stream of JetStream, archived as files, each message in exactly one block. The library's face.

    capture = Capture("ORDERS", to="s3://bucket/orders", format="parquet", key=by_subject(2))
    async with Capture.connected(capture, "nats://127.0.0.1:4222") as running:
        print(await running.until_stopped())

It needs the extra `archive`. docs/archive.md has a longer example.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

from anyio import create_task_group, sleep

from collector.archive.compression import Compression
from collector.archive.cut import CutPolicy
from collector.archive.layout import Layout, default_template
from collector.archive.making import Making
from collector.archive.naming import claim_name
from collector.archive.owning.attaching import Attaching
from collector.archive.owning.gets import Gets
from collector.archive.owning.lease import Lease, lease_key
from collector.archive.owning.means import Means
from collector.archive.owning.owner import Owner
from collector.archive.running import Running
from collector.archive.spool import Spool
from collector.archive.stores.opening import open_store
from collector.archive.stores.probe import probe
from collector.archive.told import StoredBlock, StoreFailed, Tally, Waiting, nobody
from collector.archive.uploads import AT_ONCE, Endless, Uploads
from collector.errors import StoreUnavailable
from collector.events.lifecycle import ConnectionChanged
from collector.jetstream.connection import NatsConnection, close, connect
from collector.runtime.backoff import exponential
from transfer.environment import Environment
from transfer.errors import JetStreamError, Unavailable
from transfer.jetstream.api import SERVICE_UNAVAILABLE
from transfer.nats_settings import DEFAULT_HOSTS, NatsSettings, with_keywords

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from collector.archive.formats import Format
    from collector.archive.rows import Decoder, Key
    from collector.archive.stores import Store
    from collector.archive.told import Tell, Told
    from collector.events import Event, Report

WINDOW = timedelta(minutes=15)
MAX_BYTES = 64 << 20
SHUTDOWN_TIMEOUT = 30.0
_MOST_ON_A_DURABLE, _MOST_ON_LIMITS = 250_000, 1_000_000
"""Messages of a cut. Those of a durable wait for their acks in the memory of nats-server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """The settings of a capture. The same name, stream and place continue the archive that is there."""

    stream: str = field(kw_only=False)
    to: str | Store
    """A folder, `s3://bucket/prefix`, `az://…`, `gs://…`, or a store of the user's own."""
    durable: str = ""
    """The pull consumer to read through. A stream with the retention `limits` needs none."""
    name: str = ""
    """Of the capture in the archive; empty: that of the stream."""
    format: str | Format = "ndjson"
    compression: str = "zstd"
    columns: Mapping[str, str] = field(default_factory=dict)
    headers: bool = False
    deliveries: bool = False
    text: bool = False
    decoder: str | Decoder = ""
    key: Key | None = None
    """Gives the key of each row; empty: that of the decoder."""
    key_name: str = "key"
    """The name of the folders `name=value` of keys."""
    path: str = ""
    """The template of the paths of blocks; empty: folders for key, date and hour."""
    window: timedelta = WINDOW
    max_bytes: int = MAX_BYTES
    """Held in memory or in the spool: half by the open cut, and half by the blocks that are created meanwhile."""
    max_messages: int | None = None
    max_age: timedelta | None = None
    spool: Path | None = None
    """A folder for the larger parts of blocks that are not complete."""
    uploads: int = AT_ONCE
    shutdown_timeout: float = SHUTDOWN_TIMEOUT
    on_stored: Callable[[StoredBlock], object] = nobody
    """Is called after each attempt to create a block. It must not block or raise."""
    tell: Tell = nobody
    """Is called with each event. It must not block or raise."""

    @staticmethod
    def connected(
        capture: Capture, servers: str = "", environ: Mapping[str, str] = os.environ
    ) -> AbstractAsyncContextManager[Running]:
        """Connect, and run a capture while the block lasts; it is stopped at the end of the block.

        `servers` is a comma list like NATS_HOSTS; the login is in the environment. Raises WrongSettings, WrongTemplate,
        ValueError, StoreRefused, CaptureRefused, and Refused of JetStream. A store or a JetStream that does not answer
        is waited for.
        """
        return _connected(capture, servers, environ)

    def making(self) -> Making:
        """Return how its blocks are made. Raises ValueError."""
        return Making(
            format=self.format,
            compression=Compression(self.compression),
            columns=self.columns,
            headers=self.headers,
            deliveries=self.deliveries,
            text=self.text,
            decoder=self.decoder,
        )

    def policy(self) -> CutPolicy:
        """Return the limits of its cuts. Raises ValueError."""
        most = _MOST_ON_A_DURABLE if self.durable else _MOST_ON_LIMITS
        return CutPolicy(
            window=self.window.total_seconds(),
            max_bytes=self.max_bytes // 2,
            max_messages=most if self.max_messages is None else self.max_messages,
            max_age=math.inf if self.max_age is None else self.max_age.total_seconds(),
        )

    def template(self) -> str:
        """Return the template of its paths."""
        has_key = self.key is not None or callable(self.decoder)
        return self.path or default_template(self.key_name if has_key else "")

    def check(self) -> None:
        """Raise ValueError or WrongTemplate for settings that cannot work."""
        form = self.making().opened(Spool())
        self.policy()
        Layout(self.template(), capture=self.name or self.stream, stream=self.stream, incarnation="", ext=form.suffix)


@asynccontextmanager
async def _connected(capture: Capture, servers: str, environ: Mapping[str, str]) -> AsyncIterator[Running]:
    environment = Environment(with_keywords(environ, {"NATS_HOSTS": servers}))
    settings = NatsSettings.read(environment, DEFAULT_HOSTS)
    environment.finish()
    async with nats_connection(settings, capture.tell) as nats, running(nats, capture, environ) as run:
        yield run


@asynccontextmanager
async def nats_connection(settings: NatsSettings, tell: Tell, also: Report = nobody) -> AsyncIterator[NatsConnection]:
    """Connect to NATS, trying for ever, and tell why there is no connection; `also` hears each event."""

    def report(event: Event) -> None:
        also(event)
        if isinstance(event, ConnectionChanged) and not event.connected:
            tell(Waiting(f"NATS at {settings.hosts_shown}: {event.why}"))

    nats = await connect(settings, report)
    try:
        yield nats
    finally:
        await close(nats.connection)


@asynccontextmanager
async def running(
    nats: NatsConnection, capture: Capture, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Running]:
    """Run a capture on a connection while the block lasts; see `Capture.connected`."""
    capture.check()
    store = open_store(capture.to, environ, name="to") if isinstance(capture.to, str) else capture.to
    means = _means(capture, store)
    await _probed(store, means)
    jetstream, link, stream = nats.connection.jetstream(), nats.link, capture.stream
    attaching = Attaching(jetstream, link, stream, capture.durable, capture.policy())
    await _attached(attaching, means.tell)
    gets = Gets(jetstream, link, stream, nats.connection.new_inbox())
    lease = Lease(jetstream, lease_key(means.capture, stream, store.where), means.owner)
    run = Running(means, Owner(means, attaching, lease, gets), capture.shutdown_timeout)
    failed: Exception | None = None
    async with create_task_group() as group:
        group.start_soon(run.run)
        try:
            yield run
        except Exception as exc:  # noqa: BLE001 - it is raised below, as it is, and not in a group
            failed = exc
        finally:
            run.stop()
    if failed is not None:
        raise failed


def _means(capture: Capture, store: Store) -> Means:
    tally, making, spool = Tally(), capture.making(), Spool(capture.spool)

    def tell(event: Told) -> None:
        tally.observe(event)
        if isinstance(event, StoredBlock):
            capture.on_stored(event)
        capture.tell(event)

    return Means(
        capture=capture.name or capture.stream,
        stream=capture.stream,
        owner=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
        template=capture.template(),
        making=making,
        form=making.opened(spool),
        key=capture.key,
        spool=spool,
        uploads=Uploads(store, Endless(tell), capture.uploads, tell),
        tally=tally,
        tell=tell,
        described=making.described() | {"path": capture.template(), "release": version("transfer-collector")},
    )


async def _attached(attaching: Attaching, tell: Tell) -> None:
    """Look at stream and durable; while JetStream does not answer, look again. Raises CaptureRefused or Refused."""
    curve, attempt = exponential(0.2, 15.0), 0
    while True:
        try:
            await attaching.attach()
        except (Unavailable, JetStreamError) as exc:
            if isinstance(exc, JetStreamError) and exc.code != SERVICE_UNAVAILABLE:
                raise
            attempt += 1
            tell(Waiting(str(exc)))
            await sleep(curve(attempt))
        else:
            return


async def _probed(store: Store, means: Means) -> None:
    """Ask a store whether it can keep this archive; while it does not answer, ask again. Raises StoreRefused."""
    curve, attempt = exponential(0.2, 15.0), 0
    while True:
        try:
            await probe(store)
            await claim_name(store, means.capture, means.stream)
        except StoreUnavailable as exc:
            attempt += 1
            delay = curve(attempt)
            means.tell(StoreFailed(str(exc), "unavailable", attempt, delay))
            await sleep(delay)
        else:
            return
