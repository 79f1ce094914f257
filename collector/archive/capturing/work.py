"""The work of `collector archive run`: captures from options, on one connection, until a signal."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click
from anyio import create_task_group, open_signal_receiver

from collector.archive.capture import Capture, nats_connection, running
from collector.archive.capturing.contexts import read_context
from collector.archive.capturing.lines import Lines
from collector.archive.capturing.observing import observing
from collector.archive.keys import by_path, by_subject
from collector.archive.layout import JETCAPTURE
from collector.archive.making import DECODERS, FORMATS
from collector.archive.plugins import Group, is_installed, load
from collector.archive.recording import Recorder
from collector.archive.stores.opening import is_own
from collector.archive.stores.place import parse_address
from collector.errors import CollectorError, leaves, safe_description
from collector.events.lifecycle import Stopping
from collector.runtime.loop import new_event_loop
from collector.telemetry.log import log_last_line, set_up
from transfer.environment import Environment
from transfer.errors import TransferError, WrongSettings
from transfer.nats_settings import DEFAULT_HOSTS, NatsSettings, with_keywords

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from collector.archive.capturing.observing import Observed
    from collector.archive.rows import Key
    from collector.archive.running import Running, Summary
    from collector.archive.told import Told
    from collector.jetstream.connection import NatsConnection

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command, as click reads them."""

    streams: tuple[str, ...]
    durable: str
    to: str
    capture: str
    format: str
    compression: str
    decoder: str
    group_by: str
    columns: tuple[str, ...]
    headers: bool
    deliveries: bool
    text: bool
    path: str
    window: float
    max_age: float | None
    max_messages: int | None
    max_bytes: int
    spool: str | None
    uploads: int
    shutdown_timeout: float
    listen: tuple[str, int] | None
    nats_server: str
    creds: str
    context: str


def work(options: Options) -> int:
    """Archive until a signal, and return the exit status."""
    release = not sys.stderr.isatty() or os.environ.get("MODE") == "release"
    set_up(release=release)
    try:
        captures = captures_of(options)
        environ = environ_of(options, os.environ)
        environment = Environment(environ)
        settings = NatsSettings.read(environment, DEFAULT_HOSTS)
        environment.finish()
    except (WrongSettings, CollectorError, ValueError) as exc:
        return _fail(str(exc), 2, release=release)
    try:
        loop = {"loop_factory": new_event_loop}
        outcome = anyio.run(_run, options, captures, settings, environ, backend_options=loop)
    except (CollectorError, TransferError, ExceptionGroup) as exc:
        return max(_fail(_sentence(leaf), 1, release=release) for leaf in leaves(exc))
    for error in outcome.errors:
        _fail(error, 1, release=release)
    for name, summary in outcome.summaries.items():
        log_last_line("stopped", capture=name, **asdict(summary))
    return 1 if outcome.errors else 0


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, (CollectorError, TransferError)) else safe_description(error)


def _fail(error: str, status: int, *, release: bool) -> int:
    if release:
        log_last_line("ended", error=error, action=f"exit status {status}")
    else:
        click.echo(f"collector: {error}", err=True)
    return status


# --- options


def captures_of(options: Options) -> list[Capture]:
    """Return the captures that are asked for. Raises ValueError, WrongSettings and WrongTemplate."""
    key, key_name = key_of(options.group_by) if options.group_by else (None, "key")
    own = options.format not in FORMATS
    shared = Capture(
        "",
        to=options.to,
        durable=options.durable,
        name=options.capture,
        format=load(options.format, Group.FORMATS) if own else options.format,
        compression=options.compression,
        columns=dict(map(_column, options.columns)),
        headers=options.headers,
        deliveries=options.deliveries,
        text=options.text,
        decoder=options.decoder if options.decoder in {*DECODERS, ""} else load(options.decoder, Group.DECODERS),
        key=key,
        key_name=key_name,
        path=JETCAPTURE if options.path == "jetcapture" else options.path,
        window=timedelta(seconds=options.window),
        max_bytes=options.max_bytes // len(options.streams),
        max_messages=options.max_messages,
        max_age=None if options.max_age is None else timedelta(seconds=options.max_age),
        spool=None if options.spool is None else Path(options.spool),
        uploads=options.uploads,
        shutdown_timeout=options.shutdown_timeout,
    )
    if not is_own(options.to):
        parse_address(options.to, "--to")
    captures = [replace(shared, stream=stream) for stream in dict.fromkeys(options.streams)]
    captures[0].check()
    return captures


def key_of(text: str) -> tuple[Key, str]:
    """Return a key function and the name of its folders. Raises ValueError."""
    kind, colon, rest = text.partition(":")
    if kind == "subject":
        if colon and not rest.isdecimal():
            raise ValueError(f"expected subject:N with the number of a token, got {text!r}")
        return by_subject(int(rest) if colon else None), "subject"
    if colon:
        key: Key = load(text, Group.KEYS)
        return key, rest.rpartition(".")[2]
    if is_installed(text, Group.KEYS):
        return load(text, Group.KEYS), text
    return by_path(text), text.rpartition(".")[2]


def _column(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not equals:
        raise ValueError(f"expected --column PATH=TYPE such as user.id=int64, got {text!r}")
    return name, kind


def environ_of(options: Options, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the options for the connection laid over it. Raises ValueError."""
    if options.context:
        cloud = {name: value for name, value in environ.items() if not name.startswith("NATS_")}
        environ = cloud | read_context(options.context, environ)
    return with_keywords(environ, {"NATS_HOSTS": options.nats_server, "NATS_CREDS": options.creds})


# --- running


class _Outcome:
    """The ends of all captures."""

    def __init__(self) -> None:
        self.running: list[Running] = []
        self.summaries: dict[str, Summary] = {}
        self.errors: list[str] = []


async def _run(
    options: Options, captures: Sequence[Capture], settings: NatsSettings, environ: Mapping[str, str]
) -> _Outcome:
    """Run the captures until they have ended; one that fails ends alone."""
    outcome = _Outcome()
    with observing(options.listen, options.max_bytes) as observed:
        async with create_task_group() as group:
            group.start_soon(_stop_at_signals, outcome.running, group.cancel_scope, observed)
            if options.listen is not None:
                group.start_soon(observed.pulse)
            connecting = nats_connection(settings, Lines("").tell, observed.report)
            async with connecting as nats, create_task_group() as work:
                for capture in captures:
                    work.start_soon(_capture, nats, capture, environ, outcome, observed)
            group.cancel_scope.cancel()
    return outcome


async def _capture(
    nats: NatsConnection, capture: Capture, environ: Mapping[str, str], outcome: _Outcome, observed: Observed
) -> None:
    name = capture.name or capture.stream
    lines, recorder = Lines(name), Recorder(name, observed.report, window=capture.window.total_seconds())

    recorder.rest()

    def tell(event: Told) -> None:
        lines.tell(event)
        recorder.tell(event)

    try:
        async with running(nats, replace(capture, tell=tell), environ) as run:
            outcome.running.append(run)
            observed.recorders.append((recorder, run))
            outcome.summaries[name] = await run.until_stopped(at_signals=False)
    except (CollectorError, TransferError) as exc:
        recorder.ended(exc)
        outcome.errors.append(str(exc))


async def _stop_at_signals(all_running: Sequence[Running], scope: anyio.CancelScope, observed: Observed) -> None:
    """Stop all captures at the first signal; end at once at the second one, and when none has begun yet."""
    with open_signal_receiver(*_SIGNALS) as signals:
        async for received in signals:
            observed.report(Stopping(received.name))
            if not all_running or any(run.is_stopping for run in all_running):
                scope.cancel()
            for run in all_running:
                run.stop()
