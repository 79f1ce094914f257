"""The command `transfer`: loggers are declared, looked at and removed, entries published, from a shell."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from transfer.commands.arguments import column, duration, seconds, size
from transfer.commands.arguments import key as key_of
from transfer.commands.loggers import list_loggers, remove_logger, set_logger, show_logger, update_logger
from transfer.commands.publish import publish
from transfer.errors import InvalidKey, TransferError, WrongSettings
from transfer.tail.command import add_arguments as add_tail_arguments
from transfer.tail.command import tail as show_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        return int(options.run(options))
    except (WrongSettings, InvalidKey) as error:
        return _complain(error, WRONG_USE)
    except TransferError as error:
        return _complain(error, FAILED)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return 130


def _complain(error: Exception, status: int) -> int:
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    print(f"transfer: {error}{notes}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="transfer",
        description="Declare loggers and publish log entries, which the collector moves into MongoDB.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    declaring = _command(commands, "set", set_logger, "declare a logger; one that is there needs --replace")
    declaring.add_argument("--replace", action="store_true", help="replace the declaration that is there, all of it")
    _specifying(declaring)
    _command(commands, "get", show_logger, "show a logger and what waits in its stream")
    _command(commands, "list", list_loggers, "list all loggers", key=False)
    _specifying(_command(commands, "update", update_logger, "change what is given of a logger that exists"))
    remove = _command(commands, "remove", remove_logger, "remove a logger; refuses while entries wait to be stored")
    how = remove.add_mutually_exclusive_group()
    how.add_argument("--drain", action="store_true", help="wait until the collector has stored them")
    how.add_argument("--force", action="store_true", help="discard them")
    remove.add_argument("--timeout", type=duration, default=60.0, metavar="DURATION", help="of --drain (60s)")
    _publishing(_command(commands, "publish", publish, "publish an entry, or one a line of a file or standard input"))
    tail = _command(commands, "tail", show_tail, "show what is stored of a logger in MongoDB, and follow it")
    add_tail_arguments(tail, duration)
    return parser


def _publishing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", metavar="DATA", help="one entry, as a line is; none or -: standard input")
    parser.add_argument("--file", metavar="PATH", help="a file with one entry a line, in place of DATA")
    parser.add_argument(
        "--from",
        dest="form",
        choices=("json", "text", "journald"),
        default="json",
        help="what a line is: a JSON object (json), a message (text), what journalctl -o json writes (journald)",
    )
    parser.add_argument(
        "--timestamp-field",
        metavar="FIELD",
        help="the field that is the time of an entry, dotted when nested; by default the first of the usual ones "
        "(timestamp, @timestamp, time, ts and so on) that holds one, else the time of publishing",
    )
    parser.add_argument("--metadata-field", metavar="FIELD", help="the field that is the metadata of an entry")
    parser.add_argument(
        "--bundles", action="store_true", help="many lines in one message: faster; collectors in Go read none"
    )


def _archiving(archive: argparse._ArgumentGroup) -> None:
    asked = archive.add_mutually_exclusive_group()
    asked.add_argument(
        "--archive",
        nargs="?",
        const="",
        metavar="PLACE",
        help="archive it, in /folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix; "
        "by default where the collector's COLLECTOR_ARCHIVE says",
    )
    asked.add_argument("--no-archive", action="store_true", help="archive it no more")
    archive.add_argument("--window", type=duration, metavar="DURATION", help="what a file spans at most (15m)")
    archive.add_argument("--format", choices=("ndjson", "csv", "parquet", "raw"), help="of the files (ndjson)")
    archive.add_argument("--compression", choices=("none", "gzip", "zstd", "snappy"), help="of the files (zstd)")
    archive.add_argument("--archive-max-bytes", type=size, metavar="SIZE", help="what is held at most (64MiB)")
    archive.add_argument("--archive-max-messages", type=int, metavar="COUNT", help="as above (250000)")
    archive.add_argument("--archive-key", metavar="PATH", help="entries are parted by it, like metadata.host")
    archive.add_argument("--archive-path", metavar="TEMPLATE", help="of the paths of files, with {n} or {ulid}")
    archive.add_argument(
        "--archive-column",
        action="append",
        type=column,
        metavar="PATH=TYPE",
        help="a column of CSV or Parquet, like user.id=int64; may be repeated",
    )
    archive.add_argument(
        "--archive-metadata",
        action="append",
        choices=("_headers", "_deliveries"),
        help="a fact that each row has too; may be repeated",
    )


class _Version(argparse.Action):
    def __init__(self, **keywords: object) -> None:
        super().__init__(nargs=0, help="show the version", **keywords)  # type: ignore[arg-type]

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - `--help` need not wait for it

        try:
            print(f"transfer {version('transfer-collector')}")
        except PackageNotFoundError:
            print("transfer, not installed")
        parser.exit()


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    what: str,
    *,
    key: bool = True,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(run=run, parser=parser)
    if key:
        parser.add_argument("key", type=key_of, metavar="KEY", help="the logger's name: A-Z a-z 0-9 _ -")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    return parser


def _specifying(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--description", metavar="TEXT")
    parser.add_argument(
        "--destination",
        choices=("mongodb", "stdout", "file", "blackhole", "archive"),
        help="where its entries go; by default where the collector's COLLECTOR_SINK says",
    )
    _archiving(
        parser.add_argument_group("archive", "files with all its messages too, or alone (--destination archive)")
    )
    collection = parser.add_argument_group("collection", "how it is made, if it does not exist yet")
    collection.add_argument("--collection", choices=("plain", "timeseries"), help="its kind")
    collection.add_argument("--expire-after", type=seconds, metavar="DURATION", help="documents are deleted after it")
    collection.add_argument(
        "--granularity", choices=("seconds", "minutes", "hours"), help="of a time-series collection"
    )
    stream = parser.add_argument_group("stream", "its limits; none is the default")
    stream.add_argument("--replicas", type=int, choices=range(1, 6), help="copies in the NATS cluster")
    stream.add_argument(
        "--max-age", type=duration, metavar="DURATION", help="entries nobody stored are discarded after it"
    )
    stream.add_argument("--max-bytes", type=size, metavar="SIZE", help="the oldest entries are discarded beyond it")
    stream.add_argument("--storage", choices=("file", "memory"))
