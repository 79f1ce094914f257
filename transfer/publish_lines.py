"""`transfer publish KEY` from standard input: one JSON object a line, many on their way at once, bad lines named."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from transfer.errors import InvalidEntry, TransferError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transfer.client import Transfer

IN_FLIGHT = 64
LINE_TIMEOUT = 60.0
"""Seconds one line may take: a restart of the server is sat out."""
_CHUNK = 1 << 16


async def publish_lines(transfer: Transfer, key: str, descriptor: int, *, as_json: bool = False) -> int:
    """Publish what comes, in about that order; return the exit status.

    A line that is no entry is reported and left out. When JetStream does not take one, that ends it all: what was
    confirmed until then is stored once, of the lines in flight nothing is known.
    """
    run = _Run(transfer, key, descriptor)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(run.publish())
    except ExceptionGroup as failed:
        error = failed.exceptions[0]
        if not isinstance(error, TransferError):
            raise
        run.bad += 1
        run.report("; ".join([str(error), *getattr(error, "__notes__", ())]))
    run.progress(last=True)
    if as_json:
        sys.stdout.write(json.dumps({"confirmed": run.confirmed, "bad": run.bad}) + "\n")
    else:
        sys.stdout.write(f"{run.confirmed} confirmed, {run.bad} not\n")
    return 1 if run.bad else 0


class _Run:
    """What the publishers share: the lines that are left, and what became of the others."""

    def __init__(self, transfer: Transfer, key: str, descriptor: int) -> None:
        self._transfer = transfer
        self._key = key
        self._lines = _numbered(descriptor)
        self._turn = asyncio.Lock()
        self._shown = 0.0
        self._on_terminal = sys.stderr.isatty()
        self.confirmed = 0
        self.bad = 0

    async def publish(self) -> None:
        """Publish line after line until there is none."""
        while True:
            async with self._turn:
                try:
                    number, line = await anext(self._lines)
                except StopAsyncIteration:
                    return
            await self._publish(number, line)
            self.progress()

    async def _publish(self, number: int, line: bytes) -> None:
        if not line.strip():
            return
        try:
            await self._transfer.publish(self._key, _entry(line), timeout=LINE_TIMEOUT)
            self.confirmed += 1
        except InvalidEntry as error:
            self.bad += 1
            self.report(f"line {number}: {error}")
        except TransferError as error:
            error.add_note(f"stopped at line {number}")
            raise

    def report(self, text: str) -> None:
        """Say what is wrong, on a line of its own."""
        clear = "\r\x1b[K" if self._on_terminal else ""
        sys.stderr.write(f"{clear}transfer: {text}\n")

    def progress(self, *, last: bool = False) -> None:
        """Show how far it is, on a terminal, ten times a second at most."""
        now = time.monotonic()
        if not self._on_terminal or (now - self._shown < 0.1 and not last):
            return
        self._shown = now
        end = "\r\x1b[K" if last else ""
        sys.stderr.write(f"\r{self.confirmed:,} confirmed, {self.bad:,} not{end}")
        sys.stderr.flush()


def _entry(line: bytes) -> dict[str, object]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidEntry("entry", "a JSON object", str(error)) from error
    if not isinstance(data, dict):
        raise InvalidEntry("entry", "a JSON object", f"a {type(data).__name__}")
    return data


async def _numbered(descriptor: int) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the lines, counted from 1; the last one may end without a line break."""
    number, rest = 0, b""
    while chunk := await _read(descriptor):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            yield number, line
    if rest:
        yield number + 1, rest


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
