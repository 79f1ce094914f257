"""The common part of the commands that read an archive: which root, which captures, the exit status, the progress."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

import anyio
import click

from collector.archive.finding import find_logs
from collector.archive.layout import quoted
from collector.archive.patient import patiently
from collector.archive.stores.opening import open_store
from collector.errors import CollectorError, NoCapture, leaves
from transfer.errors import TransferError, WrongSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from collector.archive.finding import FoundLog
    from collector.archive.stores import Store

_EVERY = 0.1
"""Seconds between two drawings of the progress."""

root_argument = click.argument("root")
capture_option = click.option(
    "--capture", metavar="NAME", help="This capture alone: its name, or the name of its folder under _archive/."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


def do(work: Callable[[], Awaitable[int]]) -> None:
    """Do the work of a command and exit with its status; errors are sentences on standard error."""
    try:
        status = anyio.run(work)
    except (CollectorError, TransferError, ExceptionGroup) as error:
        known = [leaf for leaf in leaves(error) if isinstance(leaf, (CollectorError, TransferError))]
        if len(known) < len(list(leaves(error))):
            raise
        for leaf in known:
            click.echo(f"collector: {leaf}", err=True)
        status = 2 if any(isinstance(leaf, WrongSettings) for leaf in known) else 1
    sys.exit(status)


def opened(root: str) -> Store:
    """Return the store of a root. Raises WrongSettings and StoreRefused."""
    return open_store(root, os.environ, name="ROOT")


async def chosen_logs(store: Store, capture: str | None) -> list[FoundLog]:
    """Return the logs of a root, or those of one capture. Raises NoCapture when there is none."""
    logs = await patiently(lambda: find_logs(store))
    chosen = [log for log in logs if capture is None or _is_called(log.folder, capture)]
    if not chosen:
        there = ", ".join(log.folder.removeprefix("_archive/") for log in logs[:5]) or "none"
        raise NoCapture(store.where, capture, there)
    return chosen


def _is_called(folder: str, capture: str) -> bool:
    name = folder.removeprefix("_archive/")
    return name == capture or name.rpartition("-")[0] == quoted(capture)


class Progress:
    """One line of a terminal, on standard error; nothing anywhere else."""

    def __init__(self) -> None:
        self._shown = 0.0
        self._on_terminal = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Draw a text in place of the last one, unless that was drawn just now."""
        now = time.monotonic()
        if self._on_terminal and now - self._shown >= _EVERY:
            self._shown = now
            sys.stderr.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave the line empty."""
        if self._on_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
