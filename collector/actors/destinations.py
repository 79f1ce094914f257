"""The destination of a logger, by its spec. Only this file knows all sinks.

Destinations without MongoDB are here, those in MongoDB are in `mongo_destinations.py`.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, Event, Semaphore, create_task_group, to_thread

from collector.actors.patience import Patience
from collector.dead_letters.files import LetterFiles, LetterFileStore
from collector.dead_letters.store import DeadLetterStore
from collector.errors import SinkUnavailable, WrongDestination
from collector.runtime.durably import describe_failure
from collector.settings import Sink
from collector.sinks import Target
from collector.sinks.blackhole import Blackhole
from collector.sinks.file import FILES_AT_ONCE, FileSink
from collector.sinks.log_file import LogFile, Rotation
from collector.sinks.stdout import Stdout, StdoutSink, take_stdout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from collector.actors.mongo_destinations import MongoDestinations
    from collector.events import Report
    from collector.jetstream.source import Attached
    from collector.settings import Settings
    from collector.sinks import DeadLetterSink, Destination, Slots
    from collector.sinks import Sink as AnySink
    from transfer.wire import LoggerSpec

_COUNTED_AT_ONCE = 64


@dataclass(slots=True, kw_only=True)
class ChosenDestinations:
    """The destination that the spec of a logger names, or else the settings. See `Destinations`."""

    settings: Settings
    mongodb: MongoDestinations | None
    """None: the replica has no MongoDB."""
    report: Report
    on_reader_gone: Callable[[], None]
    """Called when the reader of standard output has closed it."""
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(FILES_AT_ONCE))
    file_slots: Semaphore = field(default_factory=lambda: Semaphore(FILES_AT_ONCE, fast_acquire=True))
    stdout_slots: Semaphore = field(default_factory=lambda: Semaphore(1, fast_acquire=True))
    blackhole_slots: Semaphore = field(default_factory=lambda: Semaphore(_COUNTED_AT_ONCE, fast_acquire=True))
    letter_file_slots: Semaphore = field(default_factory=lambda: Semaphore(FILES_AT_ONCE, fast_acquire=True))
    _stdout: Stdout | None = None

    def of(self, spec: LoggerSpec) -> Destination:
        """Return the destination of one logger."""
        sink = Sink(spec.destination or self.settings.sink)
        if sink is Sink.MONGODB and self.mongodb is not None:
            return self.mongodb.of(spec)
        return LocalDestination(spec.key, sink, self)

    def dead_letters(self, key: str) -> DeadLetterSink:
        """Return the store of a logger's dead letters: MongoDB where there is one, else files."""
        if self.mongodb is None:
            return LetterFileStore(LetterFiles(self.settings.files, key, self.settings.write_timeout), time.time)
        names, timeout = self.mongodb.names, self.settings.write_timeout
        return DeadLetterStore(self.mongodb.database, names.dead_letters(key), timeout, time.time)

    @property
    def letter_slots(self) -> Semaphore:
        """Return the slots of the place that keeps dead letters."""
        return self.letter_file_slots if self.mongodb is None else self.mongodb.write_slots

    @property
    def stdout(self) -> Stdout:
        """Standard output, which all loggers share. Raises OSError."""
        if self._stdout is None:
            self._stdout = Stdout(take_stdout(), self.settings.write_timeout, self.on_reader_gone)
        return self._stdout


class FileSlots:
    """The slot of one file, which takes one batch at a time. A batch that has it waits for a slot of all files.

    So no write waits for a thread, which would count against its timeout.
    """

    def __init__(self, of_all: Semaphore) -> None:
        self._own = Semaphore(1, fast_acquire=True)
        self._of_all = of_all

    async def __aenter__(self) -> None:
        await self._own.acquire()
        try:
            await self._of_all.acquire()
        except BaseException:
            self._own.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._of_all.release()
        self._own.release()


class LocalDestination:
    """The destination of a logger that is not in MongoDB. See `Destination`."""

    __slots__ = ("_key", "_patience", "_shared", "_sink")

    def __init__(self, key: str, sink: Sink, shared: ChosenDestinations) -> None:
        self._key = key
        self._sink = sink
        self._shared = shared
        self._patience = Patience(key, shared.report)

    def opened(self, attached: Attached, stopping: Event) -> AbstractAsyncContextManager[Target | None]:
        """See `Destination`."""
        if self._sink is Sink.FILE:
            return self._file(attached, stopping)
        return self._at_once(stopping)

    @asynccontextmanager
    async def _at_once(self, stopping: Event) -> AsyncIterator[Target | None]:
        """Give a sink that needs only a store for dead letters."""
        yield await self._patience.until_done(self._target, stopping)

    @asynccontextmanager
    async def _file(self, attached: Attached, stopping: Event) -> AsyncIterator[Target | None]:
        """Give the file of the logger; wait while another process is its writer.

        A file takes one batch at a time. Its other batches wait for it, and take nothing that other files could use.
        """
        shared, settings = self._shared, self._shared.settings
        rotation = Rotation(settings.file_bytes, settings.file_age)
        file = LogFile(settings.files, self._key, attached.incarnation, rotation, time.time)
        sink = FileSink(file, shared.threads, settings.write_timeout)
        waited = Event()
        try:
            if await self._patience.until_done(partial(self._open, sink, waited), stopping):
                async with create_task_group() as looking:
                    looking.start_soon(sink.look_at_age, name=f"{self._key} file")
                    yield self._of(sink, FileSlots(shared.file_slots), stood_by=waited.is_set())
                    looking.cancel_scope.cancel()
            else:
                yield None
        finally:
            await sink.close()

    async def _open(self, sink: FileSink, waited: Event) -> bool:
        try:
            await sink.open()
            await self._prepare_letters()
        except SinkUnavailable:
            waited.set()
            raise
        return True

    async def _target(self) -> Target:
        shared = self._shared
        await self._prepare_letters()
        match self._sink:
            case Sink.STDOUT:
                try:
                    return self._of(StdoutSink(self._key, shared.stdout), shared.stdout_slots)
                except OSError as exc:
                    raise SinkUnavailable(
                        f"expected standard output to take entries, got {describe_failure(exc)}"
                    ) from exc
            case Sink.BLACKHOLE:
                return self._of(Blackhole(), shared.blackhole_slots)
        raise WrongDestination(
            f"expected the spec of {self._key} to name a destination that this replica has, got {self._sink}: set"
            " DATABASE, or give the logger another destination (transfer update --destination)"
        )

    def _of(self, sink: AnySink, slots: Slots, *, stood_by: bool = False) -> Target:
        shared = self._shared
        return Target(
            sink=sink,
            dead_letters=shared.dead_letters(self._key),
            write_slots=slots,
            letter_slots=shared.letter_slots,
            stood_by=stood_by,
        )

    async def _prepare_letters(self) -> None:
        """Make the folder of dead letters where they are files, so that an unwritable one is noticed early."""
        if self._shared.mongodb is None:
            files = LetterFiles(self._shared.settings.files, self._key)
            try:
                await to_thread.run_sync(files.prepare, limiter=self._shared.threads)
            except OSError as exc:
                expected = f"expected a folder for dead letters at {files.folder}"
                raise SinkUnavailable(f"{expected}, got {describe_failure(exc)}: set COLLECTOR_FILES") from exc
