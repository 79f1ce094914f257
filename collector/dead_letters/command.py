"""The command `collector dead-letters`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from collector.dead_letters.requests import List, Purge, Redrive, Show
from collector.dead_letters.summary import Filter
from collector.model import Reason
from transfer.environment import parse_duration
from transfer.errors import InvalidKey
from transfer.names import check_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.dead_letters.requests import Request

_HELP = """Look at what could not be stored, publish it again, or remove it.

Settings come from the environment, as for `collector run`: NAMESPACE and DATABASE, or without a MongoDB COLLECTOR_SINK
and COLLECTOR_FILES; for redrive also NATS_HOSTS and a way to log in to NATS.

\b
Exit status: 0 done, also when there is nothing to do
             1 failed, a letter was left, or no such logger: the database has neither its letters nor its entries
             2 wrong use or settings
\b
Example:
  collector dead-letters list system --since 1h
  collector dead-letters show system 665f1f77bcf86cd799439011
  collector dead-letters redrive system --reason document_invalid --dry-run
"""


class _Key(click.ParamType[str]):
    name = "key"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_key(value)
        except InvalidKey as error:
            self.fail(str(error), param, ctx)


class _Id(click.ParamType[Any]):
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from bson import ObjectId  # noqa: PLC0415 - --help need not load the drivers

        if not ObjectId.is_valid(value):
            self.fail(f"expected 24 hex digits, got {value!r}", param, ctx)
        return ObjectId(value)


class _Moment(click.ParamType[datetime]):
    """A time, or how long ago it was."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.now(UTC) - timedelta(seconds=parse_duration(value))
        except (ValueError, OverflowError):
            pass  # no duration
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(
                f"expected a duration such as 1h, or a time such as 2030-01-31T12:00:00Z, got {value!r}", param, ctx
            )
        return moment


_as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_key = click.argument("key", type=_Key())


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which letters are meant, as one Filter."""

    @wraps(command)
    def with_filter(
        *,
        reason: tuple[str, ...],
        since: datetime | None,
        until: datetime | None,
        ids: tuple[Any, ...],
        limit: int | None,
        **others: Any,
    ) -> None:
        command(wanted=Filter(tuple(map(Reason, reason)), since, until, ids, limit), **others)

    options = [
        click.option(
            "--reason",
            multiple=True,
            type=click.Choice([reason.value for reason in Reason]),
            help="Of this reason; may be repeated.",
        ),
        click.option("--since", type=_Moment(), help="Failed at or after a time (RFC 3339), or a duration ago (1h)."),
        click.option("--until", type=_Moment(), help="Failed before a time, or longer ago than a duration."),
        click.option("--id", "ids", multiple=True, type=_Id(), help="This letter; may be repeated."),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N, those that failed first."),
    ]
    for option in reversed(options):
        with_filter = option(with_filter)
    return with_filter


@click.group(help=_HELP, name="dead-letters")
def dead_letters() -> None:
    """Look after dead letters; `_HELP` is what a user reads."""


@dead_letters.command("list")
@_key
@_filtered
@_as_json
def list_(key: str, wanted: Filter, *, as_json: bool) -> None:
    """List the dead letters of a logger in the order in which they failed; nothing that was in them is shown.

    With --json, one object a line.
    """
    _do(List(key, wanted, as_json))


@dead_letters.command()
@_key
@click.argument("letter_id", metavar="ID", type=_Id())
@click.option("--raw", is_flag=True, help="Write the original bytes, and nothing else, to standard output.")
@_as_json
def show(key: str, letter_id: Any, *, raw: bool, as_json: bool) -> None:
    """Show one dead letter: why it is one, its headers, and its body, decoded where that can be done.

    With --json the body is there in base64, and as text where it can be read.
    """
    if raw and as_json:
        raise click.UsageError("expected --raw or --json, got both")
    _do(Show(key, letter_id, raw, as_json))


@dead_letters.command()
@_key
@_filtered
@_dry_run
@_as_json
def redrive(key: str, wanted: Filter, *, dry_run: bool, as_json: bool) -> None:
    """Publish dead letters to their logger again, and remove each when JetStream has it.

    Mend the cause first: an entry that still cannot be stored becomes the same dead letter again. The command may be
    interrupted at any point and run again, also twice at the same time: no entry is lost or stored twice.
    """
    _do(Redrive(key, wanted, dry_run, as_json))


@dead_letters.command()
@_key
@_filtered
@_dry_run
@click.option("--yes", is_flag=True, help="Do not ask; needed where standard input is no terminal.")
@_as_json
def purge(key: str, wanted: Filter, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove dead letters for good, with what is in them."""
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("expected --yes, because standard input is no terminal to confirm on")
    _do(Purge(key, wanted, dry_run, yes, as_json))


def _do(request: Request) -> None:
    from collector.dead_letters.work import run  # noqa: PLC0415 - --help need not load the drivers

    sys.exit(run(request))
