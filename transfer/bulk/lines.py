"""`transfer publish KEY` of a file or standard input: an entry a line, each confirmed, bad lines named."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from transfer.bulk.line_cutter import LineCutter
from transfer.bulk.pipelined import BulkPublisher, NotTaken
from transfer.bulk.progress import Progress, bytes_left
from transfer.entries.entry import new_id
from transfer.entries.line_entry import NotALine, too_long
from transfer.environment import Environment
from transfer.errors import InvalidEntry
from transfer.jetstream.connection import open_connection
from transfer.names import Names, check_namespace
from transfer.nats_settings import DEFAULT_HOSTS, NatsSettings
from transfer.options import BUNDLE_ENTRIES
from transfer.publishing import publication_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nats.aio.client import Client

    from transfer.bulk.line_cutter import Line
    from transfer.entries.line_entry import LineReader
    from transfer.publishing import Publication

LINE_TIMEOUT = 60.0
"""Seconds one line may take: a restart of the server is sat out."""
_BUNDLE_BYTES = 256 * 1024
"""Several on their way fit into the pipeline's window."""
_CHUNK = 1 << 17
_JSON_MAY_TAKE = 2
"""Times the bytes of an entry that its line has, at most: escapes are longer than what they stand for."""
_HOPELESS = 20
"""Lines without a single entry after which the command ends."""
_HEAD = 5
"""Bytes that tell how many entries are in a bundle, at most."""


async def publish_lines(key: str, descriptor: int, reader: LineReader, *, bundles: bool, as_json: bool) -> int:
    """Publish what comes, in about that order, on a connection of its own; return the exit status.

    A line that is no entry is reported and left out; when none of the first lines is one, that ends it all. When
    JetStream does not take one, that does too: what was confirmed until then is stored once, of the lines in flight
    nothing is known.
    """
    environment = Environment(os.environ)
    namespace = environment.text("NAMESPACE", required=True, check=check_namespace)
    settings = NatsSettings.read(environment, DEFAULT_HOSTS)
    environment.finish()
    async with open_connection(settings, name="transfer") as connection:
        progress = Progress(bytes_left(descriptor))
        most = BUNDLE_ENTRIES if bundles else 1
        run = _Run(connection, Names(namespace), key, reader=reader, most=most, progress=progress)
        await run.publish(descriptor)
    if as_json:
        sys.stdout.write(json.dumps({"confirmed": run.confirmed, "bad": run.bad}) + "\n")
    else:
        sys.stdout.write(f"{run.confirmed} confirmed, {run.bad} not\n")
    return 1 if run.bad else 0


class _Run:
    """The lines on their way, and what became of the others."""

    def __init__(
        self, connection: Client, names: Names, key: str, *, reader: LineReader, most: int, progress: Progress
    ) -> None:
        self._key = key
        self._names = names
        self._reader = reader
        self._most = most
        self._progress = progress
        self._pipeline = BulkPublisher(connection, self._confirmed, LINE_TIMEOUT)
        self._longest = _JSON_MAY_TAKE * connection.max_payload
        self._lines: dict[bytes, list[int]] = {}
        self._read = 0
        self._said: set[str] = set()
        self._good = 0
        self._is_over = False
        self.confirmed = 0
        self.bad = 0

    async def publish(self, descriptor: int) -> None:
        """Publish all lines, or until one is not taken, or none of many is an entry."""
        cutter = LineCutter(self._longest)
        try:
            async with self._pipeline.running():
                while not self._is_over and (chunk := await _read(descriptor)):
                    await self._send(cutter.feed(chunk))
                if not self._is_over:
                    await self._send(cutter.end())
        except* NotTaken as failed:
            self._stopped(failed)
        self._progress.clear()

    async def _send(self, lines: list[Line]) -> None:
        entries = [entry for line in lines if (entry := self._entry(line))]
        for bundle in _bundles(entries, self._most, min(_BUNDLE_BYTES, self._pipeline.max_body - _HEAD)):
            first = bundle[0]
            self._lines[first.id] = [entry.number for entry in bundle]
            await self._pipeline.send(publication_of(self._names, self._key, bundle))
        self._read += sum(line.size + line.holes + 1 for line in lines)

    def _entry(self, line: Line) -> _Entry | None:
        if self._is_over or (line.is_whole and not line.text.strip()):
            return None
        entry_id = new_id()
        try:
            body = self._body(line, entry_id)
        except InvalidEntry as error:
            self._leave_out(line.number, error)
            return None
        self._good += 1
        return _Entry(line.number, entry_id, body)

    def _body(self, line: Line, entry_id: bytes) -> bytes:
        """Return the body of the message, or raise `InvalidEntry`."""
        if not line.is_whole:
            raise too_long(line.text, line.size, self._longest)
        parts, most = self._reader.read(line.text), self._pipeline.max_body
        body = parts.body(time.time_ns(), entry_id)
        if len(body) > most:
            raise InvalidEntry("entry", f"at most {most} bytes, which is what the server takes", f"{len(body)}")
        if line.holes:
            parts.notes["holes"] = f"{line.holes:,} zero bytes before it are left out"
        for about, note in parts.notes.items():
            if about not in self._said:
                self._said.add(about)
                self._progress.say(f"line {line.number}: {note}")
        return body

    def _leave_out(self, number: int, error: InvalidEntry) -> None:
        self.bad += 1
        hint, is_all = (error.hint, error.is_all) if isinstance(error, NotALine) else ("", False)
        told = hint and hint not in self._said
        self._said.add(hint)
        self._progress.say(f"line {number}: {error}; {hint}" if told else f"line {number}: {error}")
        if not self._good and (is_all or self.bad == _HOPELESS):
            self._is_over = True
            what = "what is read is of that kind" if is_all else f"none of the first {self.bad} lines is an entry"
            self._progress.say(f"stopped: {what}, and nothing was published")

    def _confirmed(self, publication: Publication) -> None:
        self.confirmed += len(self._lines.pop(publication.id))
        self._progress.show(self._read, self.confirmed, self.bad)

    def _stopped(self, failed: ExceptionGroup[NotTaken]) -> None:
        error = failed.exceptions[0]
        at = f"; stopped at line {self._lines[error.publication.id][0]}" if isinstance(error, NotTaken) else ""
        self.bad += 1
        self._progress.say(f"{error}{at}")


class _Entry(NamedTuple):
    number: int
    id: bytes
    body: bytes


def _bundles(entries: list[_Entry], most: int, max_bytes: int) -> Iterator[list[_Entry]]:
    """Cut into lists of at most so many entries and bytes; one entry may be larger alone."""
    bundle: list[_Entry] = []
    size = 0
    for entry in entries:
        if bundle and (len(bundle) == most or size + len(entry.body) > max_bytes):
            yield bundle
            bundle, size = [], 0
        bundle.append(entry)
        size += len(entry.body)
    if bundle:
        yield bundle


async def _read(descriptor: int) -> bytes:
    """Wait for bytes of a pipe or terminal without a thread, which Ctrl-C could not end; a file has them at once."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except (PermissionError, NotImplementedError):  # a regular file, or Windows
        return os.read(descriptor, _CHUNK)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _CHUNK)
