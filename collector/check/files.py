"""Findings about the folder of files, and about loggers of a replica without MongoDB."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from collector.check.findings import Finding, ok, wrong
from collector.settings import Sink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from collector.check.facts import LoggerFacts
    from collector.settings import Settings


def judge_files(settings: Settings, loggers: Sequence[LoggerFacts]) -> Iterator[Finding]:
    """Yield all findings; no file is written."""
    sinks = {logger.key: sink_of(logger, settings) for logger in loggers}
    if settings.database is None or Sink.FILE in {settings.sink, *sinks.values()}:
        yield _judge_folder(settings.files)
    if settings.database is None:
        do = "set DATABASE, or give the logger another destination (transfer update --destination)"
        for key in sorted(key for key, sink in sinks.items() if sink is Sink.MONGODB):
            yield wrong(f"logger {key}", expected="a destination that replicas have", got="mongodb", do=do)


def sink_of(logger: LoggerFacts, settings: Settings) -> Sink:
    """Return the sink of a logger."""
    stated = None if logger.spec is None else logger.spec.destination
    return settings.sink if stated is None else Sink(stated)


def _judge_folder(folder: Path) -> Finding:
    """Judge the folder, or the parent in which it will be made."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return ok(f"folder {folder}", "can be written")
    do = "let the replica's user write it, or name another folder in COLLECTOR_SINK=file:PATH or COLLECTOR_FILES"
    expected = f"{above} to be a folder that can be written"
    return wrong(f"folder {folder}", expected=expected, got="one that cannot be", do=do)
