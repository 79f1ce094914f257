"""The command `collector dead-letters`."""

from __future__ import annotations

import json
import os
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from collector.errors import CollectorError
from collector.model import Reason
from transfer.environment import Environment, parse_duration
from transfer.errors import InvalidKey, TransferError, WrongSettings
from transfer.names import Names, check_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from click._termui_impl import ProgressBar

    from collector.dead_letters.letters import Filter, Letters
    from collector.dead_letters.redrive import Redriven
    from transfer.nats_settings import NatsSettings

_P = ParamSpec("_P")
_MANY = 200
"""Letters from which on a terminal shows a progress bar."""

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
        from collector.dead_letters.letters import Filter  # noqa: PLC0415 - --help need not load the drivers

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
    from collector.dead_letters import table  # noqa: PLC0415 - --help need not load the drivers

    async def work(letters: Letters, _: _Settings) -> int:
        found = False
        async for group in letters.find(wanted):
            if not (found or as_json):
                click.echo(table.HEAD)
            for letter in group:
                click.echo(json.dumps(table.values(letter)) if as_json else table.row(letter))
            found = True
        if not found:
            click.echo(f"no dead letters of {key}", err=True)
        return 0

    _run(key, work)


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

    from collector.dead_letters import table  # noqa: PLC0415 - --help need not load the drivers

    async def work(letters: Letters, _: _Settings) -> int:
        found = await letters.read([letter_id])
        if not found or found[0].body is None:
            return _print_error(f"expected a dead letter {letter_id} of {key!r} with its body, found none")
        if raw:
            sys.stdout.buffer.write(found[0].body)
        elif as_json:
            click.echo(json.dumps(table.whole(found[0], found[0].body)))
        else:
            click.echo("\n".join(table.lines(found[0], found[0].body)))
        return 0

    _run(key, work)


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

    async def work(letters: Letters, settings: _Settings) -> int:
        if settings.nats is None:  # a dry run
            return _print_result({"would_redrive": await letters.count(wanted)}, as_json=as_json)
        result, error = await _redrive(letters, wanted, key, settings.names, settings.nats)
        for letter_id, why in result.left:
            _print_error(f"{letter_id} is left: {why}")
        left = [{"id": str(letter_id), "why": why} for letter_id, why in result.left]
        status = _print_result({"redriven": result.redriven, "left": left if as_json else len(left)}, as_json=as_json)
        if error is not None:
            return _print_error(f"{error}; what was not confirmed is left, run the same again")
        return 1 if left else status

    _run(key, work, with_nats=not dry_run)


@dead_letters.command()
@_key
@_filtered
@_dry_run
@click.option("--yes", is_flag=True, help="Do not ask; needed where standard input is no terminal.")
@_as_json
def purge(key: str, wanted: Filter, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove dead letters for good, with what is in them."""

    async def work(letters: Letters, _: _Settings) -> int:
        total = await letters.count(wanted)
        if dry_run or not total:
            return _print_result({"would_purge" if dry_run else "purged": total}, as_json=as_json)
        if not yes:
            click.confirm(f"Remove {total} dead letters of {key} for good?", abort=True, err=True)
        purged = 0
        with _progress(total) as bar:
            async for group in letters.find(wanted):
                purged += await letters.remove(group)
                bar.update(len(group))
        return _print_result({"purged": purged}, as_json=as_json)

    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("expected --yes, because standard input is no terminal to confirm on")
    _run(key, work)


async def _redrive(
    letters: Letters, wanted: Filter, key: str, names: Names, nats: NatsSettings
) -> tuple[Redriven, Exception | None]:
    """Return the outcomes of the letters, and the error that ended the redrive early, if any."""
    from collector.dead_letters import redrive as again  # noqa: PLC0415 - --help need not load the drivers
    from collector.jetstream.publisher import publishing  # noqa: PLC0415
    from transfer.jetstream.connection import open_connection  # noqa: PLC0415

    result, total = again.Redriven(), await letters.count(wanted)
    async with (
        open_connection(nats, name="collector dead-letters redrive") as connection,
        publishing(connection, names.subject(key), names.stream(key)) as publisher,
    ):
        with _progress(total) as bar:
            try:
                async for group in letters.find(wanted):
                    await again.redrive(letters, group, publisher, result)
                    bar.update(len(group))
            except (TransferError, CollectorError) as error:
                return result, error
    return result, None


# --- settings and output


class _Settings:
    """The settings of a command, read from the environment. Raises WrongSettings, which names every wrong variable."""

    def __init__(self, *, with_nats: bool) -> None:
        from collector.settings import Places, read_namespace  # noqa: PLC0415 - --help need not load the drivers
        from transfer.nats_settings import NatsSettings  # noqa: PLC0415

        environment = Environment(os.environ)
        namespace = read_namespace(environment)
        self.nats: NatsSettings | None = NatsSettings.read(environment) if with_nats else None
        self.places = Places.read(environment)
        environment.finish()
        self.names = Names(namespace)


def _run(key: str, work: Callable[[Letters, _Settings], Awaitable[int]], *, with_nats: bool = False) -> None:
    import anyio  # noqa: PLC0415 - --help need not load the drivers

    async def run() -> int:
        settings = _Settings(with_nats=with_nats)
        async with _letters(settings, key) as letters:
            if missing := await letters.missing():
                return _print_error(f"expected a logger that has stored anything, but there is neither {missing}")
            return await work(letters, settings)

    try:
        status = anyio.run(run)
    except WrongSettings as error:
        click.echo(str(error), err=True)
        status = 2
    except (CollectorError, TransferError) as error:
        status = _print_error(str(error))
    sys.exit(status)


@asynccontextmanager
async def _letters(settings: _Settings, key: str) -> AsyncIterator[Letters]:
    names, places = settings.names, settings.places
    if places.database is None:
        from collector.dead_letters.files import LetterFileReader, LetterFiles  # noqa: PLC0415 - as below

        yield LetterFileReader(LetterFiles(places.files, key), places.files / f"{key}.ndjson")
        return
    from collector.dead_letters.letters import DeadLetterReader  # noqa: PLC0415 - --help need not load the drivers
    from collector.mongodb.calls import database_of, open_mongo  # noqa: PLC0415

    async with open_mongo(places.database.read()) as client:
        yield DeadLetterReader(database_of(client, names.database), names.dead_letters(key), names.collection(key))


def _print_result(result: dict[str, object], *, as_json: bool) -> int:
    click.echo(
        json.dumps(result) if as_json else ", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in result.items())
    )
    return 0


def _print_error(sentence: str) -> int:
    click.echo(f"collector: {sentence}", err=True)
    return 1


def _progress(total: int) -> ProgressBar[int]:
    return click.progressbar(length=total, file=sys.stderr, hidden=total < _MANY or not sys.stderr.isatty())
