"""`transfer publish KEY` of a file or standard input: one JSON object a line, each confirmed, bad lines named."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from transfer.connection import open_connection
from transfer.entry import encode_entry, new_id
from transfer.environment import Environment
from transfer.errors import InvalidEntry
from transfer.names import Names, check_namespace
from transfer.nats_settings import DEFAULT_HOSTS, NatsSettings
from transfer.options import BUNDLE_ENTRIES
from transfer.pipelined import NotTaken, Pipeline
from transfer.progress import Progress, bytes_left
from transfer.publishing import Publication
from transfer.wire import BUNDLE, CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nats.aio.client import Client

LINE_TIMEOUT = 60.0
"""Seconds one line may take: a restart of the server is sat out."""
_BUNDLE_BYTES = 256 * 1024
"""Several on their way fit into the pipeline's window."""
_CHUNK = 1 << 17
_HEAD = 5
"""Bytes that tell how many entries are in a bundle, at most."""


async def publish_lines(key: str, descriptor: int, *, bundles: bool, as_json: bool) -> int:
    """Publish what comes, in about that order, on a connection of its own; return the exit status.

    A line that is no entry is reported and left out. When JetStream does not take one, that ends it all: what was
    confirmed until then is stored once, of the lines in flight nothing is known.
    """
    environment = Environment(os.environ)
    namespace = environment.text("NAMESPACE", required=True, check=check_namespace)
    settings = NatsSettings.read(environment, DEFAULT_HOSTS)
    environment.finish()
    async with open_connection(settings, name="transfer") as connection:
        run = _Run(
            connection, Names(namespace), key, BUNDLE_ENTRIES if bundles else 1, Progress(bytes_left(descriptor))
        )
        await run.publish(descriptor)
    if as_json:
        sys.stdout.write(json.dumps({"confirmed": run.confirmed, "bad": run.bad}) + "\n")
    else:
        sys.stdout.write(f"{run.confirmed} confirmed, {run.bad} not\n")
    return 1 if run.bad else 0


class _Run:
    """The lines on their way, and what became of the others."""

    def __init__(self, connection: Client, names: Names, key: str, most: int, progress: Progress) -> None:
        self._key = key
        self._subject, self._stream = names.subject(key), names.stream(key)
        self._most = most
        self._progress = progress
        self._pipeline = Pipeline(connection, self._confirmed, LINE_TIMEOUT)
        self._lines: dict[bytes, list[int]] = {}
        self._read = 0
        self.confirmed = 0
        self.bad = 0

    async def publish(self, descriptor: int) -> None:
        """Publish all lines, or until one is not taken."""
        try:
            async with self._pipeline.running():
                async for lines in _numbered(descriptor):
                    await self._send(lines)
                    self._read += sum(len(line) + 1 for _, line in lines)
        except* NotTaken as failed:
            self._stopped(failed)
        self._progress.clear()

    async def _send(self, lines: list[tuple[int, bytes]]) -> None:
        entries = [entry for number, line in lines if line.strip() and (entry := self._entry(number, line))]
        for bundle in _bundles(entries, self._most, min(_BUNDLE_BYTES, self._pipeline.max_body - _HEAD)):
            first = bundle[0]
            self._lines[first.id] = [entry.number for entry in bundle]
            await self._pipeline.send(self._publication(bundle))

    def _entry(self, number: int, line: bytes) -> _Entry | None:
        entry_id, most = new_id(), self._pipeline.max_body
        try:
            body = encode_entry(_data(line), time.time_ns(), None, entry_id)
        except InvalidEntry as error:
            self._leave_out(number, str(error))
            return None
        if len(body) > most:
            self._leave_out(number, f"expected at most {most} bytes, which is what the server takes, got {len(body)}")
            return None
        return _Entry(number, entry_id, body)

    def _leave_out(self, number: int, why: str) -> None:
        self.bad += 1
        self._progress.say(f"line {number}: {why}")

    def _publication(self, bundle: list[_Entry]) -> Publication:
        first, body, content = bundle[0], bundle[0].body, {}
        if len(bundle) > 1:
            body = msgspec.msgpack.encode([msgspec.Raw(entry.body) for entry in bundle])
            content = {CONTENT_TYPE: BUNDLE}
        return Publication(
            self._key, self._subject, self._stream, first.id, 0, body, sent_before=False, content=content
        )

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


def _data(line: bytes) -> dict[str, object]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidEntry("entry", "a JSON object", str(error)) from error
    if not isinstance(data, dict):
        raise InvalidEntry("entry", "a JSON object", f"a {type(data).__name__}")
    return data


async def _numbered(descriptor: int) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Yield the lines that came together, counted from 1; the last one may end without a line break."""
    number, rest = 0, b""
    while chunk := await _read(descriptor):
        *lines, rest = (rest + chunk).split(b"\n")
        yield list(enumerate(lines, number + 1))
        number += len(lines)
    if rest:
        yield [(number + 1, rest)]


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
