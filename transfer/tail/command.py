"""`transfer tail KEY`: what is stored in MongoDB of a logger, and what is being stored."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.tail.where import parse_where

if TYPE_CHECKING:
    from collections.abc import Callable

_LATE = 300.0

ABOUT = """\
Shows what the collector has stored of a logger, oldest first, from collection KEY_logs of database NAMESPACE.
A line is time, level, logger, msg, then the other fields as key=value; --json has all fields, _id too.
"""
GUARANTEES = """\
--where   FIELD is dotted when nested (user.id). VALUE is a number, true, false or null when it looks like one, else
          text; in double quotes it is text always (code="7"). null also finds entries without the field. Of a list, one
          item must be equal. Several --where must all hold.

--follow  shows no entry twice. Of a plain collection it shows every entry stored from then on, in the order stored, by
          change stream, for which MongoDB must be a replica set. A time-series collection has no change stream and is
          looked at twice a second: an entry is shown if it is stored at most --late after its timestamp.
          When MongoDB does not answer it waits, and shows what was stored meanwhile. Ctrl-C ends it, with status 130.

environment: NAMESPACE and DATABASE (MongoDB URI; or DATABASE_FILE), both required. NATS is not asked.
"""


class MissingDriver(TransferError):
    """The MongoDB driver is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "tail: expected the MongoDB driver, which the client leaves out, got no module 'pymongo': "
            "pip install 'transfer-collector[tail]'"
        )


def add_arguments(parser: argparse.ArgumentParser, duration: Callable[[str], float]) -> None:
    """Say what `tail` takes; `duration` reads one."""
    parser.description, parser.epilog = ABOUT, GUARANTEES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is being stored")
    parser.add_argument(
        "--where", type=_where, action="append", default=[], metavar="FIELD=VALUE", help="only entries with that value"
    )
    parser.add_argument(
        "--since",
        type=lambda text: _ago(duration(text)),
        metavar="DURATION",
        help="only entries with timestamps of that long ago or later, such as 5m, and all of them unless -n is given",
    )
    parser.add_argument("-n", "--lines", type=_lines, metavar="N", help="of what is stored already, the newest N (10)")
    parser.add_argument("--late", type=duration, default=_LATE, metavar="DURATION", help="see --follow below (5m)")


def _where(text: str) -> tuple[str, object]:
    try:
        return parse_where(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _ago(seconds: float) -> datetime:
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    except OverflowError as error:
        raise argparse.ArgumentTypeError(f"expected fewer than 2,000 years, got {seconds:.0f} seconds") from error


def _lines(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number such as 10, got {text!r}")


def tail(options: argparse.Namespace) -> int:
    """Print what is asked for and return the exit status; blocks until it is done or interrupted."""
    from transfer.environment import Environment  # noqa: PLC0415 - `--help` need not wait for nats-py
    from transfer.names import check_namespace  # noqa: PLC0415 - as above

    environment = Environment(os.environ)
    namespace = environment.text("NAMESPACE", required=True, check=check_namespace)
    database = environment.secret("DATABASE")
    if database is None and not environment.is_set("DATABASE_FILE"):
        environment.add_problem("DATABASE", "a MongoDB URI such as mongodb://127.0.0.1:27017", "nothing: it is not set")
    environment.finish()
    try:
        from transfer.tail.output import print_entries  # noqa: PLC0415 - pymongo is not a dependency of the client
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"pymongo", "bson"}:
            raise
        raise MissingDriver from error
    print_entries(database.read() if database else "", namespace, options)
    return 0
