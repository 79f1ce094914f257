"""The command `transfer`: loggers are declared, looked at and removed, entries published, from a shell."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from transfer.errors import InvalidKey, LoggerExists, TransferError, UnknownLogger, UnreadableSpec, WrongSettings
from transfer.names import check_key
from transfer.tail.command import add_arguments as add_tail_arguments
from transfer.tail.command import tail as show_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from transfer.client import Found, Transfer
    from transfer.differences import Difference
    from transfer.entries.line_entry import LineReader, Parts
    from transfer.wire import CollectionSpec, LoggerSpec, StreamSpec

    _Spec = TypeVar("_Spec", CollectionSpec, StreamSpec)
_Number = TypeVar("_Number", int, float)

FAILED = 1
WRONG_USE = 2

_EXAMPLE = """\
example:
  export NATS_HOSTS=nats://127.0.0.1:4222 NAMESPACE=beta
  transfer set system --description "what the system does"
  transfer publish system '{"msg": "hello", "level": "info"}'
  tail -f app.jsonl | transfer publish system       # one JSON object a line
  tail -f app.log | transfer publish system --from text
  journalctl -o json -f | transfer publish system --from journald
  transfer publish system --file app.jsonl
  transfer get system
  DATABASE=mongodb://127.0.0.1:27017 transfer tail system --follow

environment:
  NAMESPACE (required), NATS_HOSTS (nats://127.0.0.1:4222), and one way to log in:
  NATS_NKEY (seed), NATS_TOKEN, NATS_USER + NATS_PASSWORD, NATS_CREDS (file);
  NATS_TLS_CA, NATS_TLS_CERT, NATS_TLS_KEY (files). Every secret also as NAME_FILE.

exit status: 0 done, 1 failed, 2 wrong use or settings
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.getLogger("transfer").addHandler(logging.NullHandler())  # what matters is said below, once
    ignored = logging.StreamHandler(sys.stderr)
    ignored.setFormatter(logging.Formatter("transfer: %(message)s"))
    logging.getLogger("transfer.settings").addHandler(ignored)
    try:
        if "alone" in options:
            return int(options.alone(options))
        return asyncio.run(_run(options))
    except (WrongSettings, InvalidKey) as error:
        return _complain(error, WRONG_USE)
    except TransferError as error:
        return _complain(error, FAILED)
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception, status: int) -> int:
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    print(f"transfer: {error}{notes}", file=sys.stderr)
    return status


async def _run(options: argparse.Namespace) -> int:
    from transfer.client import Transfer  # noqa: PLC0415 - `--help` need not wait for nats-py

    command: Callable[[Transfer, argparse.Namespace], Coroutine[object, object, int]] = options.run
    async with Transfer.connect() as transfer:
        try:
            return await command(transfer, options)
        except UnknownLogger as error:
            if alike := await _alike(transfer, error.key):
                error.add_note(f"did you mean {alike}?")
            raise


async def _alike(transfer: Transfer, key: str) -> str:
    """Return the loggers whose keys are like this one, or that there are none at all."""
    try:
        keys = [one.key if isinstance(one, UnreadableSpec) else one.logger.key for one in await transfer.list()]
    except TransferError:  # a publisher may not list; the first error says enough
        return ""
    return " or ".join(repr(one) for one in get_close_matches(key, keys, n=3))


# --- what the commands do


async def _set(transfer: Transfer, options: argparse.Namespace) -> int:
    """Declare a logger; one that is declared in another way is replaced only when that is asked for."""
    logger = _logger(options)
    changes = await _changes(transfer, logger)
    if changes and not options.replace:
        raise LoggerExists(logger.key, [str(change) for change in changes])
    await transfer.set(logger)
    return _done(options, "replaced" if changes else "set")


async def _changes(transfer: Transfer, logger: LoggerSpec) -> list[Difference]:
    """Return in what a logger differs from the one that is declared; nothing where there is none."""
    from transfer.differences import differences, unreadable  # noqa: PLC0415 - see _run

    try:
        return differences((await transfer.get(logger.key)).logger, logger)
    except UnknownLogger:
        return []
    except UnreadableSpec as error:
        return [unreadable(error)]


async def _update(transfer: Transfer, options: argparse.Namespace) -> int:
    """Change what was given and keep the rest."""
    found = await transfer.get(options.key)
    await transfer.update(_logger(options, found.logger))
    return _done(options, "updated")


async def _remove(transfer: Transfer, options: argparse.Namespace) -> int:
    await transfer.remove(options.key, drain=options.drain, force=options.force, timeout=options.timeout)
    return _done(options, "removed")


async def _get(transfer: Transfer, options: argparse.Namespace) -> int:
    found = await transfer.get(options.key)
    if options.json:
        _print_json(_as_json(found))
    else:
        for name, value in _as_json(found).items():
            print(f"{name:12} {'-' if value in (None, '') else value}")
    return 0


async def _list(transfer: Transfer, options: argparse.Namespace) -> int:
    found = await transfer.list()
    if options.json:
        _print_json([_as_json(one) for one in found])
        return 0
    width = max((len(one.key if isinstance(one, UnreadableSpec) else one.logger.key) for one in found), default=3)
    print(f"{'KEY':{width}}  {'WAITING':>9}  {'BYTES':>11}  DESCRIPTION")
    for one in found:
        row = _as_json(one)
        waiting, size = ("-" if row.get(name) is None else row[name] for name in ("messages", "bytes"))
        print(f"{row['key']:{width}}  {waiting:>9}  {size:>11}  {row.get('description') or row.get('error', '')}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    """Publish an entry as other commands do what they do; lines on a connection of their own."""
    from transfer.entries.line_entry import Form, LineReader  # noqa: PLC0415 - see _run

    reader = LineReader(Form(options.form), options.timestamp_field, options.metadata_field)
    if reader.form is Form.TEXT and (reader.timestamp_field or reader.metadata_field):
        options.parser.error("expected --timestamp-field and --metadata-field with JSON, got --from text: it has none")
    if options.data not in (None, "-"):
        if options.file is not None or options.bundles:
            options.parser.error("expected --file and --bundles with lines, got them with DATA: leave one out")
        options.parts = _entry(options, reader)
        options.run = _publish_entry
        return asyncio.run(_run(options))
    from transfer.bulk.lines import publish_lines  # noqa: PLC0415 - see _run

    with _opened(options) as lines:
        return asyncio.run(publish_lines(options.key, lines, reader, bundles=options.bundles, as_json=options.json))


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[int]:
    """Give the descriptor of the file, or that of standard input."""
    if options.file is None:
        yield sys.stdin.fileno()
        return
    parser: argparse.ArgumentParser = options.parser
    try:
        file = Path(options.file).open("rb", buffering=0)  # noqa: SIM115 - only opening it is wrong use
    except OSError as error:
        parser.error(f"--file: expected a file that can be read, got {options.file!r}: {error.strerror}")
    with file:
        yield file.fileno()


def _entry(options: argparse.Namespace, reader: LineReader) -> Parts:
    from transfer.entries.line_entry import NotALine  # noqa: PLC0415 - see _run
    from transfer.errors import InvalidEntry  # noqa: PLC0415 - see _run

    try:
        return reader.read(os.fsencode(options.data))
    except InvalidEntry as error:
        parser: argparse.ArgumentParser = options.parser
        hint = f"; {error.hint}" if isinstance(error, NotALine) and error.hint else ""
        parser.error(f"argument DATA: {error}{hint}")


async def _publish_entry(transfer: Transfer, options: argparse.Namespace) -> int:
    parts: Parts = options.parts
    for note in parts.notes.values():
        print(f"transfer: {note}", file=sys.stderr)
    confirmation = await transfer.publish(options.key, parts.data, timestamp=parts.moment, metadata=parts.metadata)
    said = {"stream": confirmation.stream, "sequence": confirmation.sequence, "id": confirmation.id.hex()}
    if options.json:
        _print_json(said)
    else:
        print(f"confirmed: {said['stream']} sequence {said['sequence']} id {said['id']}")
    return 0


def _done(options: argparse.Namespace, done: str) -> int:
    if options.json:
        _print_json({"key": options.key, "done": done})
    else:
        print(f"{options.key}: {done}")
    return 0


def _as_json(found: Found | UnreadableSpec) -> dict[str, object]:
    import msgspec  # noqa: PLC0415 - see _run

    if isinstance(found, UnreadableSpec):
        return {"key": found.key, "error": found.why}
    spec: dict[str, object] = msgspec.to_builtins(found.logger)
    if found.stream is None:
        return spec | {"messages": None, "bytes": None, "first": None, "last": None}
    times = {"first": found.stream.first, "last": found.stream.last}
    state = {"messages": found.stream.messages, "bytes": found.stream.bytes}
    return spec | state | {name: time and time.isoformat() for name, time in times.items()}


def _print_json(value: object) -> None:
    print(json.dumps(value))


def _logger(options: argparse.Namespace, known: LoggerSpec | None = None) -> LoggerSpec:
    """Return the spec of the options; what they do not state is as it is known."""
    from transfer.wire import CollectionSpec, LoggerSpec, StreamSpec  # noqa: PLC0415 - see _run

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
        )
    except ValueError as error:
        parser: argparse.ArgumentParser = options.parser
        parser.error(str(error))


def _changed(kind: type[_Spec], known: _Spec | None, given: dict[str, object]) -> _Spec | None:
    import msgspec  # noqa: PLC0415 - see _run

    stated = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(known or kind(), **stated) if stated else known


# --- what the command line looks like


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="transfer",
        description="Declare loggers and publish log entries, which the collector moves into MongoDB.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    declaring = _command(commands, "set", _set, "declare a logger; one that is there needs --replace")
    declaring.add_argument("--replace", action="store_true", help="replace the declaration that is there, all of it")
    _specifying(declaring)
    _command(commands, "get", _get, "show a logger and what waits in its stream")
    _command(commands, "list", _list, "list all loggers", key=False)
    _specifying(_command(commands, "update", _update, "change what is given of a logger that exists"))
    remove = _command(commands, "remove", _remove, "remove a logger; refuses while entries wait to be stored")
    how = remove.add_mutually_exclusive_group()
    how.add_argument("--drain", action="store_true", help="wait until the collector has stored them")
    how.add_argument("--force", action="store_true", help="discard them")
    remove.add_argument("--timeout", type=_duration, default=60.0, metavar="DURATION", help="of --drain (60s)")
    publish = _command(commands, "publish", None, "publish an entry, or one a line of a file or standard input")
    publish.set_defaults(alone=_publish)
    publish.add_argument("data", nargs="?", metavar="DATA", help="one entry, as a line is; none or -: standard input")
    publish.add_argument("--file", metavar="PATH", help="a file with one entry a line, in place of DATA")
    publish.add_argument(
        "--from",
        dest="form",
        choices=("json", "text", "journald"),
        default="json",
        help="what a line is: a JSON object (json), a message (text), what journalctl -o json writes (journald)",
    )
    publish.add_argument(
        "--timestamp-field",
        metavar="FIELD",
        help="the field that is the time of an entry, dotted when nested; by default the first of the usual ones "
        "(timestamp, @timestamp, time, ts and so on) that holds one, else the time of publishing",
    )
    publish.add_argument("--metadata-field", metavar="FIELD", help="the field that is the metadata of an entry")
    publish.add_argument(
        "--bundles", action="store_true", help="many lines in one message: faster; collectors in Go read none"
    )
    tail = _command(commands, "tail", None, "show what is stored of a logger in MongoDB, and follow it")
    tail.set_defaults(alone=show_tail)
    add_tail_arguments(tail, _duration)
    return parser


class _Version(argparse.Action):
    def __init__(self, **keywords: object) -> None:
        super().__init__(nargs=0, help="show the version", **keywords)  # type: ignore[arg-type]

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see _run

        try:
            print(f"transfer {version('transfer-collector')}")
        except PackageNotFoundError:
            print("transfer, not installed")
        parser.exit()


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[Transfer, argparse.Namespace], Coroutine[object, object, int]] | None,
    what: str,
    *,
    key: bool = True,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(run=run, parser=parser)
    if key:
        parser.add_argument("key", type=_key, metavar="KEY", help="the logger's name: A-Z a-z 0-9 _ -")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def _specifying(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--description", metavar="TEXT")
    parser.add_argument(
        "--destination",
        choices=("mongodb", "stdout", "file", "blackhole"),
        help="where its entries go; by default where the collector's COLLECTOR_SINK says",
    )
    collection = parser.add_argument_group("collection", "how it is made, if it does not exist yet")
    collection.add_argument("--collection", choices=("plain", "timeseries"), help="its kind")
    collection.add_argument("--expire-after", type=_seconds, metavar="DURATION", help="documents are deleted after it")
    collection.add_argument(
        "--granularity", choices=("seconds", "minutes", "hours"), help="of a time-series collection"
    )
    stream = parser.add_argument_group("stream", "its limits; none is the default")
    stream.add_argument("--replicas", type=int, choices=range(1, 6), help="copies in the NATS cluster")
    stream.add_argument(
        "--max-age", type=_duration, metavar="DURATION", help="entries nobody stored are discarded after it"
    )
    stream.add_argument("--max-bytes", type=_size, metavar="SIZE", help="the oldest entries are discarded beyond it")
    stream.add_argument("--storage", choices=("file", "memory"))


def _key(text: str) -> str:
    try:
        return check_key(text)
    except InvalidKey as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _duration(text: str) -> float:
    from transfer.environment import parse_duration  # noqa: PLC0415 - see _run

    return _positive(parse_duration, text)


def _seconds(text: str) -> int:
    return max(1, round(_duration(text)))


def _size(text: str) -> int:
    from transfer.environment import parse_size  # noqa: PLC0415 - see _run

    return _positive(parse_size, text)


def _positive(parse: Callable[[str], _Number], text: str) -> _Number:
    try:
        value = parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected more than nothing, got {text}")
    return value
