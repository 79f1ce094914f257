"""The work of `collector archive replay`: settings, the connection, the cursor, signals, progress and the summary."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio
import click
import msgspec
from anyio import CancelScope, create_task_group, current_time, lowlevel, move_on_after, to_thread

from collector.archive.commands import Progress, chosen_logs, opened
from collector.archive.replaying import NOWHERE, Place
from collector.archive.replaying.cursor import opened_cursor
from collector.archive.replaying.entries import Bundles
from collector.archive.replaying.raw import RawMessages
from collector.archive.replaying.replay import Counting, Paced, Replay
from collector.decoding.identity import Incarnation
from collector.errors import WrongReplay
from collector.jetstream.window import Outgoing, Window
from collector.settings import read_namespace
from transfer.environment import Environment
from transfer.jetstream.api import request as ask
from transfer.jetstream.connection import open_connection
from transfer.names import Names
from transfer.nats_settings import DEFAULT_HOSTS, NatsSettings

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from collector.archive.finding import FoundLog
    from collector.archive.replaying.cursor import Cursor
    from collector.archive.replaying.replay import Sender, Tally
    from collector.archive.replaying.request import Request
    from collector.archive.stores import Store

_LOOK = 0.1
_SAVE_EVERY = 1.0
_STOPPING = 10.0
"""Seconds that a replay which is stopped waits for the answers to what it has sent."""
_DRY_BYTES = 1024 * 1024


class _Config(msgspec.Struct):
    max_msg_size: int = -1


class _Info(msgspec.Struct):
    config: _Config


class _Target:
    """Where the messages go."""

    def __init__(self, request: Request) -> None:
        """Read the environment. Raises WrongSettings."""
        environment = Environment(os.environ)
        names = Names(read_namespace(environment) or "none") if request.logger is not None else None
        self.nats = NatsSettings.read(environment, DEFAULT_HOSTS)
        environment.finish()
        self.subject = names.subject(request.logger or "") if names is not None else None
        self.stream = names.stream(request.logger or "") if names is not None else request.stream or ""


async def run(request: Request) -> int:
    """Do the work of one request and return the exit status."""
    target, store = _Target(request), opened(request.root)
    logs = await chosen_logs(store, request.capture)
    if len(logs) > 1:
        names = ", ".join(log.folder.removeprefix("_archive/") for log in logs)
        raise WrongReplay(f"expected one incarnation of the stream, got {names}: replay each of them by this name")
    (log,) = logs
    if not log.numbers:
        raise WrongReplay(f"expected cuts in {log.folder}, but it has none")
    with opened_cursor(request.cursor_path(log.folder), request.described(log.folder)) as cursor:
        running = _Running(request, store, log, target, cursor)
        return await (running.dry() if request.dry_run else running.publish())


class _Running:
    """One run of a replay."""

    def __init__(self, request: Request, store: Store, log: FoundLog, target: _Target, cursor: Cursor) -> None:
        self._request = request
        self._store = store
        self._log = log
        self._to = target
        self._cursor = cursor
        self._progress = Progress()
        self._window: Window | None = None
        self._replay: Replay | None = None
        self._entries = self._messages = self._known = 0
        self._began = current_time()

    async def dry(self) -> int:
        """Read all that would be replayed, and count it."""
        await self._read(Counting(self._confirmed), _DRY_BYTES)
        self._print("would replay")
        return 0

    async def publish(self) -> int:
        """Replay until the end, or a signal."""
        stopped = False
        async with open_connection(self._to.nats, name="collector archive replay") as connection:
            answer = await ask(connection.jetstream(), f"STREAM.INFO.{self._to.stream}")
            limit = msgspec.json.decode(answer, type=_Info).config.max_msg_size
            most = connection.max_payload if limit <= 0 else min(limit, connection.max_payload)
            window = self._window = Window(connection, self._to.stream, self._confirmed)
            sender: Sender = window if self._request.rate is None else Paced(window, self._request.rate)
            async with window.running(), create_task_group() as group:
                reading = CancelScope()
                await group.start(self._stop_at_a_signal, reading)
                group.start_soon(self._watch, window)
                try:
                    with reading:
                        await self._read(sender, most)
                        await window.settled()
                    stopped = reading.cancelled_caught
                    with move_on_after(_STOPPING):
                        await window.settled()
                finally:
                    await self._save()
                group.cancel_scope.cancel()
        if not stopped:
            self._cursor.remove()
        self._print("stopped; the same command goes on" if stopped else "replayed")
        return 1 if stopped else 0

    async def _read(self, sender: Sender, most: int) -> None:
        first = await self._log.read(self._store, self._log.numbers[0])
        subject, replay = self._to.subject, self._cursor.replay
        target: Bundles | RawMessages
        if first.making.get("format") == "raw" or self._request.stream is not None:
            target = RawMessages(first.incarnation, replay, subject=subject, prefix=self._request.prefix)
        else:
            target = Bundles(subject or "", Incarnation(first.capture, first.incarnation), replay, most)
        self._replay = Replay(self._store, self._request.wanted, self._cursor.start, target, sender)
        await self._replay.run(self._log, lowlevel.checkpoint)

    def _confirmed(self, message: Outgoing, known: bool) -> None:
        self._entries += message.entries
        self._messages += 1
        self._known += known

    async def _save(self) -> None:
        """Save the cursor, whatever becomes of the caller."""
        done = None if self._window is None else self._window.done
        if isinstance(done, Place) and done > NOWHERE:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._cursor.save, done, self._entries)

    async def _stop_at_a_signal(
        self, reading: CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                reading.cancel()

    async def _watch(self, window: Window) -> None:
        """Show how far it is, and save the cursor each second."""
        saved_at = current_time()
        while True:
            await anyio.sleep(_LOOK)
            if current_time() - saved_at >= _SAVE_EVERY:
                await self._save()
                saved_at = current_time()
            cut = 0 if self._replay is None else self._replay.tally.cut
            waits = f"; waits: {window.waits_for}" if window.waits_for else ""
            rate = self._entries / max(_LOOK, current_time() - self._began)
            last = self._log.numbers[-1]
            self._progress.show(f"cut {cut:,} of {last:,}, {self._entries:,} entries, {rate:,.0f}/s{waits}")

    def _print(self, done: str) -> None:
        self._progress.clear()
        tally: Tally | None = None if self._replay is None else self._replay.tally
        seconds = current_time() - self._began
        facts = {
            "done": done,
            "entries": self._entries,
            "messages": self._messages,
            "known_messages": self._known,
            "entries_before": self._cursor.before,
            "seconds": round(seconds, 3),
            "left": {} if tally is None else asdict(tally.left),
        }
        if self._request.as_json:
            click.echo(json.dumps(facts))
            return
        said = f"{done}: {self._entries:,} entries in {self._messages:,} messages, {seconds:.1f} s"
        if self._cursor.before:
            said += f"; {self._cursor.before:,} entries before"
        if self._known:
            said += f"; the stream had {self._known:,} of the messages already"
        click.echo(said)
        for line in () if tally is None else tally.left.lines():
            click.echo(line)
