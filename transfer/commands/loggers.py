# ruff: noqa: T201 - its output
"""`transfer set | get | list | update | remove`: loggers are declared, shown and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from transfer.commands.connected import connected
from transfer.commands.output import print_json
from transfer.errors import LoggerExists, UnknownLogger, UnreadableSpec

if TYPE_CHECKING:
    import argparse

    from transfer.changes import Change
    from transfer.client import Found, Transfer
    from transfer.wire import ArchiveSpec, CollectionSpec, LoggerSpec, StreamSpec

    _Spec = TypeVar("_Spec", CollectionSpec, StreamSpec)


@connected
async def set_logger(transfer: Transfer, options: argparse.Namespace) -> int:
    """Declare a logger. `--replace` replaces one that is declared in another way."""
    logger = _logger(options)
    changes = await _changes(transfer, logger)
    if changes and not options.replace:
        raise LoggerExists(logger.key, [str(change) for change in changes])
    await transfer.set(logger)
    return _done(options, "replaced" if changes else "set")


async def _changes(transfer: Transfer, logger: LoggerSpec) -> list[Change]:
    """Return the changes from the declared logger to this one, none where no logger is declared."""
    from transfer.changes import changes, unreadable  # noqa: PLC0415 - see `connected`

    try:
        return changes((await transfer.get(logger.key)).logger, logger)
    except UnknownLogger:
        return []
    except UnreadableSpec as error:
        return [unreadable(error)]


@connected
async def update_logger(transfer: Transfer, options: argparse.Namespace) -> int:
    """Change the settings that were given and keep the rest."""
    found = await transfer.get(options.key)
    await transfer.update(_logger(options, found.logger))
    return _done(options, "updated")


@connected
async def remove_logger(transfer: Transfer, options: argparse.Namespace) -> int:
    """Remove a logger."""
    await transfer.remove(options.key, drain=options.drain, force=options.force, timeout=options.timeout)
    return _done(options, "removed")


@connected
async def show_logger(transfer: Transfer, options: argparse.Namespace) -> int:
    """Show a logger and the state of its stream."""
    found = await transfer.get(options.key)
    if options.json:
        print_json(_as_json(found))
    else:
        for name, value in _as_json(found).items():
            print(f"{name:12} {'-' if value in (None, '') else value}")
    return 0


@connected
async def list_loggers(transfer: Transfer, options: argparse.Namespace) -> int:
    """Show all loggers, one a line."""
    found = await transfer.list()
    if options.json:
        print_json([_as_json(one) for one in found])
        return 0
    width = max((len(one.key if isinstance(one, UnreadableSpec) else one.logger.key) for one in found), default=3)
    print(f"{'KEY':{width}}  {'WAITING':>9}  {'BYTES':>11}  DESCRIPTION")
    for one in found:
        row = _as_json(one)
        waiting, size = ("-" if row.get(name) is None else row[name] for name in ("messages", "bytes"))
        print(f"{row['key']:{width}}  {waiting:>9}  {size:>11}  {row.get('description') or row.get('error', '')}")
    return 0


def _done(options: argparse.Namespace, done: str) -> int:
    if options.json:
        print_json({"key": options.key, "done": done})
    else:
        print(f"{options.key}: {done}")
    return 0


def _as_json(found: Found | UnreadableSpec) -> dict[str, object]:
    import msgspec  # noqa: PLC0415 - see `connected`

    if isinstance(found, UnreadableSpec):
        return {"key": found.key, "error": found.why}
    spec: dict[str, object] = msgspec.to_builtins(found.logger)
    if found.stream is None:
        return spec | {"messages": None, "bytes": None, "first": None, "last": None}
    times = {"first": found.stream.first, "last": found.stream.last}
    state = {"messages": found.stream.messages, "bytes": found.stream.bytes}
    return spec | state | {name: time and time.isoformat() for name, time in times.items()}


def _logger(options: argparse.Namespace, known: LoggerSpec | None = None) -> LoggerSpec:
    """Return the spec of the options; what they do not state is as it is known."""
    from transfer.wire import CollectionSpec, LoggerSpec, StreamSpec  # noqa: PLC0415 - see `connected`

    collection = {"kind": options.collection, "expire_after_seconds": options.expire_after}
    collection |= {"granularity": options.granularity}
    stream = {"replicas": options.replicas, "max_age": options.max_age, "max_bytes": options.max_bytes}
    stream |= {"storage": options.storage}
    known = known or LoggerSpec(options.key)
    try:
        return LoggerSpec(
            options.key,
            known.description if options.description is None else options.description,
            _changed(CollectionSpec, known.collection, collection),
            _changed(StreamSpec, known.stream, stream),
            options.destination or known.destination,
            _archive(options, known.archive),
        )
    except ValueError as error:
        parser: argparse.ArgumentParser = options.parser
        parser.error(str(error))


def _archive(options: argparse.Namespace, known: ArchiveSpec | None) -> ArchiveSpec | None:
    """Return how the logger is archived. Raises ValueError."""
    import msgspec  # noqa: PLC0415 - see `connected`

    from transfer.wire import ArchiveSpec  # noqa: PLC0415 - see `connected`

    stated: dict[str, object] = {"format": options.format, "compression": options.compression}
    stated |= {"window": options.window, "key": options.archive_key, "path": options.archive_path}
    stated |= {"max_bytes": options.archive_max_bytes, "max_messages": options.archive_max_messages}
    stated |= {"columns": options.archive_column and dict(options.archive_column), "to": options.archive or None}
    stated |= {"metadata": options.archive_metadata and tuple(options.archive_metadata)}
    stated = {name: value for name, value in stated.items() if value is not None}
    if options.no_archive:
        known = None
    elif known is None and options.archive is not None:
        known = ArchiveSpec()
    if known is None:
        if stated:
            raise ValueError(f"expected --archive beside what is said of it ({', '.join(stated)}), got none")
        return None
    return msgspec.convert(msgspec.to_builtins(msgspec.structs.replace(known, **stated)), ArchiveSpec)


def _changed(kind: type[_Spec], known: _Spec | None, given: dict[str, object]) -> _Spec | None:
    import msgspec  # noqa: PLC0415 - see `connected`

    stated = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(known or kind(), **stated) if stated else known
