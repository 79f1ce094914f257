"""The command `collector archive replay`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from collector.archive.commands import do, json_option, root_argument
from collector.archive.replaying.replay import Wanted
from collector.archive.replaying.request import Request
from transfer.errors import InvalidKey
from transfer.names import check_key

if TYPE_CHECKING:
    from collections.abc import Callable

_HELP = """Publish an archive again: its entries to a logger, or its raw messages to a stream.

With --to-logger each entry goes into the stream of that logger under the identity that it has in the archive (`_id`),
and the replicas store it once: also when the replay is killed and repeated, and where the entry still is. Needs
NAMESPACE. With --to-stream the messages of a capture in the format raw are published as they were, to their own
subjects or behind a prefix. NATS comes from the environment, as for `collector run`.

The replay reads the log in order, and each cut in the order of its stream. It waits while the stream is full or NATS is
away. Ctrl-C stops it; the same command goes on where it stopped, by its cursor, which is a file in this folder.

\b
Exit status: 0 everything was replayed
             1 it was stopped, a block or record cannot be read, or the stream refuses a message
             2 wrong use or settings
\b
Example:
  collector archive replay s3://bucket/logs --capture audit --to-logger audit --dry-run
  collector archive replay s3://bucket/logs --capture audit --to-logger audit --since 2030-01-31T00:00:00Z
  collector archive replay /backup/raw --capture ORDERS --to-stream ORDERS2 --subject-prefix again. --rate 5000
"""


class _Moment(click.ParamType[str]):
    """A time, as text in UTC without its Z and without zeros at its end, so that texts compare as times do."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"expected a time such as 2030-01-31T12:00:00Z, got {value!r}", param, ctx)
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")


class _Logger(click.ParamType[str]):
    name = "key"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_key(value)
        except InvalidKey as error:
            self.fail(str(error), param, ctx)


_OPTIONS = [
    click.option("--capture", required=True, metavar="NAME", help="The capture, or its folder under _archive/."),
    click.option("--to-logger", "logger", type=_Logger(), metavar="KEY", help="Into this logger of NAMESPACE."),
    click.option("--to-stream", "stream", metavar="NAME", help="Raw messages into this stream."),
    click.option("--subject-prefix", "prefix", default="", metavar="TEXT", help="In front of each subject (again.)."),
    click.option("--since", type=_Moment(), help="Messages that the stream stored (_time) at or after it."),
    click.option("--until", type=_Moment(), help="Messages that the stream stored before it."),
    click.option("--key", metavar="TEXT", help="Blocks of this key alone."),
    click.option("--from-cut", "first", type=click.IntRange(1), default=1, metavar="N", help="Begin with this cut."),
    click.option("--to-cut", "last", type=click.IntRange(1), metavar="N", help="End with this cut."),
    click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="At most N entries a second."),
    click.option("--cursor", type=click.Path(dir_okay=False, path_type=Path), help="The file of the cursor."),
    click.option("--dry-run", is_flag=True, help="Read all of it, and only count."),
    json_option,
]


def _optioned(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(help=_HELP)
@root_argument
@_optioned
def replay(**options: Any) -> None:
    """Publish an archive again; `_HELP` is what a user reads."""
    from collector.archive.replaying.work import run  # noqa: PLC0415 - --help need not load the drivers

    if (options["logger"] is None) == (options["stream"] is None):
        raise click.UsageError("expected one of --to-logger and --to-stream")
    if options["prefix"] and options["stream"] is None:
        raise click.UsageError("expected --subject-prefix with --to-stream alone")
    parts = {name: options.pop(name) for name in ("first", "last", "since", "until", "key")}
    parts |= {name: parts[name] or "" for name in ("since", "until")}
    request = Request(wanted=Wanted(**parts), **options)
    do(lambda: run(request))
