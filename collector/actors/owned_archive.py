"""The archive of one logger and its owner: spec and settings in, what a capture needs out."""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from anyio import CapacityLimiter, create_task_group

from collector.actors.beside import BothSinks
from collector.actors.pipeline import risks_of
from collector.archive.buffer import Buffer
from collector.archive.capture import Capture
from collector.archive.keys import by_path
from collector.archive.layout import Layout
from collector.archive.naming import claim_name
from collector.archive.owning.attaching import Attaching
from collector.archive.owning.gets import Gets
from collector.archive.owning.lease import Lease, lease_key
from collector.archive.owning.means import Means
from collector.archive.owning.owner import Owner
from collector.archive.permitted import permitted_place
from collector.archive.recording import Recorder
from collector.archive.running import facts_of
from collector.archive.spool import Spool
from collector.archive.stores.opening import open_store
from collector.archive.stores.probe import probe
from collector.archive.told import Tally
from collector.archive.uploads import Endless, Uploads
from collector.errors import (
    CaptureRefused,
    RecordDamaged,
    SinkUnavailable,
    StoreRefused,
    StoreUnavailable,
    StreamWentBack,
    WrongDestination,
    WrongTemplate,
)
from collector.runtime.latch import Latch
from collector.settings import Sink
from transfer.errors import Unavailable, WrongSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from collector.actors.moving import Shared
    from collector.actors.sides import Sides
    from collector.archive.owning.attaching import Attached as Readable
    from collector.archive.stores import Store
    from collector.archive.told import Told
    from collector.jetstream.source import Attached, DurableSource
    from collector.settings import Settings
    from transfer.wire import LoggerSpec

_WRONG = (StoreRefused, CaptureRefused, WrongTemplate, WrongSettings, ValueError)
"""Errors that somebody has to do something about."""


def capture_of(spec: LoggerSpec, attached: Attached, shared: Shared) -> Capture:
    """Return how a logger is archived. Raises WrongDestination and ValueError."""
    asked, settings = spec.archive, shared.settings
    assert asked is not None  # noqa: S101 - for the type checker
    return Capture(
        attached.stream,
        to=permitted_place(spec.key, asked.to, settings.archives),
        durable=attached.durable,
        name=spec.key,
        format=asked.format,
        compression=asked.compression,
        columns=asked.columns,
        headers="_headers" in asked.metadata,
        deliveries="_deliveries" in asked.metadata,
        decoder="raw" if asked.format == "raw" else "entries",
        key=by_path(asked.key) if asked.key else None,
        key_name=asked.key.rpartition(".")[2],
        path=asked.path,
        window=timedelta(seconds=asked.window),
        max_bytes=asked.max_bytes,
        max_messages=asked.max_messages,
        spool=settings.archive_spool,
        uploads=settings.archive_uploads,
    )


@dataclass(frozen=True, slots=True)
class Common:
    """The environment, the memory and the uploads that all archived loggers of a replica share."""

    environ: Mapping[str, str]
    buffer: Buffer
    uploads: CapacityLimiter

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> Common:
        """Make it by the settings of the replica; the logins of stores are in the environment."""
        return cls(environ, Buffer(settings.archive_buffer_bytes), CapacityLimiter(settings.archive_uploads))

    def spool(self, folder: Path | None) -> Spool:
        """Return the place of open cuts: in memory, which all share, or in a folder."""
        return Spool(folder) if folder is not None else Spool(None, self.buffer.begin)


class Chosen(NamedTuple):
    """How a logger is archived, where, and with what."""

    capture: Capture
    store: Store
    common: Common


@dataclass(frozen=True, slots=True)
class OwnedArchive:
    """The archive of one incarnation of a logger's stream, which is owned whenever no other replica does."""

    owner: Owner
    anew: Latch
    """Set when the stream is another one."""
    recorder: Recorder
    tally: Tally

    @classmethod
    async def opened(
        cls, spec: LoggerSpec, shared: Shared, attached: Attached, sides: Sides, common: Common
    ) -> OwnedArchive:
        """Look at store, stream and spec. Raises WrongDestination and SinkUnavailable."""
        try:
            capture = capture_of(spec, attached, shared)
            store = open_store(str(capture.to), common.environ, name=f"the archive of {spec.key}")
            await probe(store)
            await claim_name(store, spec.key, attached.stream)
            return cls._of(spec, shared, attached, sides, Chosen(capture, store, common))
        except StoreUnavailable as exc:
            raise SinkUnavailable(str(exc)) from exc
        except _WRONG as exc:
            raise WrongDestination(str(exc)) from exc

    @classmethod
    def _of(cls, spec: LoggerSpec, shared: Shared, attached: Attached, sides: Sides, chosen: Chosen) -> OwnedArchive:
        key, jetstream, link, anew = spec.key, shared.nats.connection.jetstream(), shared.nats.link, Latch()
        capture, store = chosen.capture, chosen.store
        tally = Tally()
        recorder = Recorder(
            key, sides.of("archive"), window=capture.window.total_seconds(), risks=risks_of(spec, attached)
        )
        making, spool = capture.making(), chosen.common.spool(capture.spool)
        form = making.opened(spool)
        Layout(capture.template(), capture=key, stream=attached.stream, incarnation="", ext=form.suffix)

        def tell(event: Told) -> None:
            tally.observe(event)
            recorder.tell(event)

        gets = Gets(jetstream, link, attached.stream, shared.nats.connection.new_inbox())
        beside = None
        sink = Sink(spec.destination or shared.settings.sink)
        if sink is not Sink.ARCHIVE:
            beside = BothSinks(spec, replace(shared, report=sides.of(sink)), attached, gets)
        means = Means(
            capture=key,
            stream=attached.stream,
            owner=f"{socket.gethostname()}-{secrets.token_hex(4)}",
            template=capture.template(),
            making=making,
            form=form,
            key=capture.key,
            spool=spool,
            uploads=Uploads(store, Endless(tell), chosen.common.uploads, tell),
            tally=tally,
            tell=tell,
            beside=beside,
        )
        readable = Attaching(jetstream, link, attached.stream, attached.durable, capture.policy())
        attaching = LoggerAttaching(shared.sources.of(key), attached, readable, anew)
        lease = Lease(jetstream, lease_key(key, attached.stream, store.where), means.owner)
        return cls(Owner(means, attaching, lease, gets), anew, recorder, tally)

    async def run(self, stopping: Latch) -> None:
        """Own it until asked to stop, and all that was read is stored."""
        async with create_task_group() as group:
            group.start_soon(self.recorder.watch, partial(facts_of, self.tally, self.owner))
            try:
                await self.owner.run(stopping)
            except (RecordDamaged, StreamWentBack) as exc:
                self.recorder.ended(exc)
                raise
            group.cancel_scope.cancel()


class LoggerAttaching:
    """Looks at the stream and the durable of a logger as each pipeline does, and then as the archive does."""

    def __init__(self, source: DurableSource, attached: Attached, attaching: Attaching, anew: Latch) -> None:
        self._source = source
        self._incarnation = attached.incarnation
        self._attaching = attaching
        self._anew = anew

    async def attach(self) -> Readable:
        """See `Attaching`. Raises Unavailable when the stream is another one, and says so by the latch."""
        attached = await self._source.attach()
        if attached.incarnation != self._incarnation:
            self._anew.set()
            raise Unavailable(f"stream {attached.stream} was made anew")
        return await self._attaching.attach()
