"""The command `collector archive verify`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from collector.archive.commands import Progress, capture_option, chosen_logs, do, json_option, opened, root_argument
from collector.archive.proof.proving import Part, Prover

if TYPE_CHECKING:
    from collector.archive.proof.findings import Finding, Tally

_HELP = """Prove an archive: read all of it, and say what is not as its records say. Nothing is changed.

The records follow each other, and each begins where its predecessor ends. Each block is there, can be read to its end,
and has exactly the entries that its record gives it, each once; its size and its SHA-256 are those of its record, where
the record has them. No other file is there. ROOT is a folder, or an address such as s3://bucket/logs.

Each thing that is wrong is one sentence on standard output, with the path. Blocks are copied one by one into the folder
for temporary files (TMPDIR), so neither their size nor the number of rows decides about the memory.

\b
Exit status: 0 the archive, or the part of it that was asked for, is proven
             1 something is wrong, a block of the last cut is not there yet, or the store does not answer
             2 wrong use or settings
\b
Example:
  collector archive verify s3://bucket/logs
  collector archive verify /backup/logs --capture orders --from-cut 1200 --json | jq .path
"""


@click.command(help=_HELP)
@root_argument
@capture_option
@click.option("--from-cut", "first", type=click.IntRange(1), default=1, metavar="N", help="Begin with this cut.")
@click.option("--to-cut", "last", type=click.IntRange(1), metavar="N", help="End with this cut.")
@json_option
def verify(*, root: str, capture: str | None, first: int, last: int | None, as_json: bool) -> None:
    """Prove an archive; `_HELP` is what a user reads."""
    part = Part(first, last)

    async def work() -> int:
        store = opened(root)
        logs = await chosen_logs(store, capture)
        progress, start = Progress(), time.monotonic()
        total = sum(len(log.numbers) for log in logs)

        def tell(finding: Finding) -> None:
            progress.clear()
            click.echo(json.dumps(asdict(finding)) if as_json else finding.problem)

        def looked(tally: Tally) -> None:
            progress.show(f"{tally.records:,} of {total:,} cuts, {_counted(tally)}")

        prover = Prover(store, tell, looked)
        for log in logs:
            await prover.prove(log, part)
        if capture is None and part.is_all:
            await prover.prove_names()
        progress.clear()
        _print_end(prover.tally, time.monotonic() - start, as_json=as_json)
        return 1 if prover.tally.findings else 0

    do(work)


def _print_end(tally: Tally, seconds: float, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"verified": asdict(tally) | {"seconds": round(seconds, 3)}}))
        return
    captures = "1 capture" if tally.captures == 1 else f"{tally.captures:,} captures"
    said = f"{captures}, {tally.records:,} cuts, {_counted(tally)} in {seconds:.1f} s"
    click.echo(f"proven: {said}" if not tally.findings else f"NOT proven: {said}; {tally.findings:,} findings")


def _counted(tally: Tally) -> str:
    return f"{tally.blocks:,} blocks, {tally.rows:,} entries, {tally.bytes / 1e6:,.1f} MB"
