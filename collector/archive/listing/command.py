"""The commands `collector archive list` and `collector archive status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from collector.archive.commands import capture_option, chosen_logs, do, json_option, opened, root_argument
from collector.archive.layout import record_path
from collector.archive.listing.state import read_state, utc, with_stream
from collector.errors import RecordDamaged

if TYPE_CHECKING:
    from collector.archive.finding import FoundLog
    from collector.archive.record import Block, Record
    from collector.archive.stores import Store

_LIST_HELP = """List the captures of an archive; with --capture, the cuts and the blocks of that one.

ROOT is a folder, or an address such as s3://bucket/logs. Only records are read, and no block. A size is shown where the
record has it.

\b
Example:
  collector archive list s3://bucket/logs
  collector archive list /backup/logs --capture orders --json | jq 'select(.trigger == "shutdown")'
"""
_STATUS_HELP = """Say how far each capture of an archive is: its last cut, whether that is complete, and its cursor.

ROOT is a folder, or an address such as s3://bucket/logs. With --stream, NATS is asked for the lag and the owner:
NATS_HOSTS and a login as for `collector run`.

\b
Exit status: 0 each cut is complete
             1 the last cut of a capture is open, its log is damaged, or something does not answer
             2 wrong use or settings
\b
Example:
  collector archive status s3://bucket/logs --capture orders --stream ORDERS
"""


@click.command("list", help=_LIST_HELP)
@root_argument
@capture_option
@json_option
def list_(*, root: str, capture: str | None, as_json: bool) -> None:
    """List captures or cuts; `_LIST_HELP` is what a user reads."""

    async def work() -> int:
        store = opened(root)
        logs = await chosen_logs(store, capture)
        if capture is None:
            return await _list_captures(store, logs, as_json=as_json)
        for log in logs:
            async for record in log.records(store):
                click.echo(json.dumps(_cut(record)) if as_json else "\n".join(_lines(record)))
        return 0

    do(work)


async def _list_captures(store: Store, logs: list[FoundLog], *, as_json: bool) -> int:
    status = 0
    for log in logs:
        try:
            first, last = await log.read(store, log.numbers[0]), await log.read(store, log.numbers[-1])
        except (RecordDamaged, IndexError) as error:
            gone = RecordDamaged(record_path(log.folder, log.hint), "neither it nor a later one is there any more")
            click.echo(f"collector: {error if isinstance(error, RecordDamaged) else gone}", err=True)
            status = 1
            continue
        found = {
            "capture": last.capture,
            "incarnation": last.incarnation,
            "folder": log.folder,
            "cuts": len(log.numbers),
            "from": first.after + 1,
            "to": last.to,
            "to_time": utc(last.to_time_ns),
            "format": last.making.get("format", ""),
        }
        if as_json:
            click.echo(json.dumps(found))
        else:
            click.echo(
                f"{last.capture}  {len(log.numbers):,} cuts, sequences {first.after + 1:,} to {last.to:,}, the last of"
                f" {utc(last.to_time_ns)}; the stream of {last.incarnation}; {log.folder}"
            )
    return status


def _cut(record: Record) -> dict[str, Any]:
    return {
        "capture": record.capture,
        "incarnation": record.incarnation,
        "cut": record.number,
        "from": record.after + 1,
        "to": record.to,
        "to_time": utc(record.to_time_ns),
        "trigger": record.trigger.value,
        "messages": record.members.messages,
        "rows": sum(block.rows for block in record.blocks),
        "owner": record.owner,
        "blocks": [_block(block) for block in record.blocks],
    }


def _block(block: Block) -> dict[str, Any]:
    return {
        "path": block.path,
        "kind": block.kind.value,
        "key": block.key,
        "window": utc(block.window_ns),
        "rows": block.rows,
        "bytes": block.size,
    }


def _lines(record: Record) -> list[str]:
    rows = sum(block.rows for block in record.blocks)
    head = (
        f"cut {record.number}  sequences {record.after + 1:,} to {record.to:,}, the last of {utc(record.to_time_ns)};"
        f" {record.members.messages:,} messages, {rows:,} rows, {len(record.blocks):,} blocks; {record.trigger.value},"
        f" by {record.owner}"
    )
    return [head, *map(_line, record.blocks)]


def _line(block: Block) -> str:
    size = "" if block.size is None else f", {block.size:,} bytes"
    return f"  {block.path}  {block.rows:,} rows{size}, window {utc(block.window_ns)}"


@click.command(help=_STATUS_HELP)
@root_argument
@capture_option
@click.option("--stream", metavar="NAME", help="Ask NATS how far this stream is.")
@json_option
def status(*, root: str, capture: str | None, stream: str | None, as_json: bool) -> None:
    """Say how far the captures are; `_STATUS_HELP` is what a user reads."""

    async def work() -> int:
        store = opened(root)
        logs = await chosen_logs(store, capture)
        states = [await read_state(store, log) for log in logs]
        if stream is not None:
            states = await with_stream(states, stream, store.where)
        for state in states:
            click.echo(json.dumps(state.as_json()) if as_json else "\n".join(state.lines()))
        return 0 if all(state.is_well for state in states) else 1

    do(work)
