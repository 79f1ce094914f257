"""The options of `collector archive run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from transfer.environment import parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_PORT = 65_535
_HELP = """Archive streams until SIGTERM or SIGINT: each message is in exactly one file in the end, whatever is killed.

Start as many as you like: one of them reads, the others wait, and one takes over within 12 s. A stream that keeps its
messages (retention limits) is read as it is. A work queue, or a stream with interest, needs a durable of its own; a
message is acked when its file is stored. On a signal, all that was read is stored, and a second signal ends at once.

\b
Files:   {capture}/[KEY=value/]date=2030-01-31/hour=12/<first>-<last>-<n>.ndjson.zst      (UTC, of the window)
Columns: _seq _pos _time _subject _id timestamp metadata data
Read:    duckdb -c "select * from read_json('/backup/**/*.ndjson.zst', hive_partitioning = true)"

\b
Exit status: 0 stopped by a signal
             1 a capture could not begin, or must not go on
             2 wrong use or settings
\b
Example:
  nats consumer add ORDERS archive --pull --ack explicit --deliver all --wait 1h --defaults
  collector archive run --stream ORDERS --durable archive --to s3://bucket/orders --format parquet --window 15m
  collector archive run --stream EVENTS --to /backup --format csv --compression gzip --group-by data.region
"""


class _Parsed(click.ParamType[Any]):
    """A value that one of our functions reads."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            parsed = self._parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if parsed <= 0:
            self.fail(f"expected more than nothing, got {value}", param, ctx)
        return parsed


class _Address(click.ParamType[Any]):
    """Host and port."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        host, colon, port = str(value).rpartition(":")
        if not colon or not port.isdecimal() or int(port) > _MOST_PORT:
            self.fail(f"expected HOST:PORT such as 0.0.0.0:8080, got {value!r}", param, ctx)
        return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - probes come from outside the container


_duration, _size = _Parsed("duration", parse_duration), _Parsed("size", parse_size)
_count = click.IntRange(min=1)

_OPTIONS = [
    click.option("--stream", "streams", multiple=True, required=True, help="A stream; may be repeated."),
    click.option("--durable", default="", help="The pull consumer to read through, where messages are acked."),
    click.option("--to", "--output", "to", required=True, help="/folder, s3://bucket/prefix, az://… or gs://…"),
    click.option("--capture", default="", help="Its name in the archive.  [default: the stream]"),
    click.option(
        "--format", default="ndjson", show_default=True, help="ndjson, csv, parquet, raw, or module:attribute."
    ),
    click.option(
        "--compression",
        type=click.Choice(["none", "gzip", "zstd", "snappy"]),
        default="zstd",
        show_default=True,
        help="Of the files; inside of Parquet.",
    ),
    click.option(
        "--decoder",
        default="",
        help="json: a body is the data. entries: as transfer publishes them. raw: as it came. Or module:attribute."
        "  [default: json]",
    ),
    click.option(
        "--group-by", default="", help="A folder for each subject, subject:2 (its token), or path in an entry."
    ),
    click.option("--group-by-subject", is_flag=True, help="The same as --group-by subject."),
    click.option("--column", "columns", multiple=True, metavar="PATH=TYPE", help="A column of its own (csv, parquet)."),
    click.option("--headers", is_flag=True, help="With a column _headers."),
    click.option("--deliveries", is_flag=True, help="With a column _deliveries."),
    click.option("--text", is_flag=True, help="Format raw: bodies as text where they are UTF-8."),
    click.option("--path", default="", help="The template of paths; `jetcapture` is that of jet-capture."),
    click.option(
        "--window", type=_duration, default="15m", show_default=True, help="Files are closed at its end (UTC)."
    ),
    click.option("--max-age", type=_duration, help="Close files so long after their first message.  [default: none]"),
    click.option("--max-messages", type=_count, help="Close files after so many.  [default: 250000, limits: 1000000]"),
    click.option("--max-bytes", type=_size, default="64MiB", show_default=True, help="Held by all captures together."),
    click.option("--spool", type=click.Path(file_okay=False, exists=True), help="A folder to hold them in."),
    click.option("--uploads", type=_count, default=4, show_default=True, help="Files of a stream written at a time."),
    click.option("--shutdown-timeout", type=_duration, default="30s", show_default=True, help="For the end."),
    click.option(
        "--listen",
        type=_Address(),
        metavar="HOST:PORT",
        help="Answer /metrics, /livez, /readyz and /status there.  [default: no]",
    ),
    click.option("--nats-server", default="", help="Goes before NATS_HOSTS.  [default: nats://127.0.0.1:4222]"),
    click.option("--creds", default="", help="Goes before each login in the environment."),
    click.option("--context", default="", help="A context of the nats command; the environment is not read then."),
]


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(help=_HELP)
@_with_options
def run(**options: Any) -> None:
    """Archive streams; `_HELP` is what a user reads."""
    try:
        from collector.archive.capturing.work import Options, work  # noqa: PLC0415 - --help need not load the extra
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        click.echo(
            f"collector: expected the extra archive to be installed, but the Python package {missing} is missing;"
            " install it: pip install 'transfer-collector[service,archive]'",
            err=True,
        )
        sys.exit(1)
    if options.pop("group_by_subject"):
        if options["group_by"] not in {"", "subject"}:
            raise click.UsageError("expected --group-by or --group-by-subject, got both")
        options["group_by"] = "subject"
    if options["capture"] and len(options["streams"]) > 1:
        raise click.UsageError("expected --capture with one --stream, got several")
    sys.exit(work(Options(**options)))
