"""The command `collector check`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import anyio
import click
from anyio import to_thread

from collector.check.findings import Finding, Level, as_json, counted, warning, wrong
from transfer.errors import WrongSettings
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.settings import Settings
    from transfer.misspelt import Misspelt

_STATUS = {Level.OK: 0, Level.WARNING: 0, Level.WRONG: 1}
_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.WRONG: "red"}

_HELP = """Connect, and say what is right and wrong before a deployment. Nothing is changed.

Settings come from the environment, as for `collector run`. A line for each finding: `ok`, `warning` (it works, and may
surprise) or `wrong` (entries would not arrive, or could be lost), with what was expected, what came, and what to do.

\b
Exit status: 0 nothing is wrong
             1 something is wrong
             2 the settings are wrong
\b
Example:
  collector check --replicas 6
  collector check --json | jq '.findings[] | select(.level == "wrong")'
"""


@click.command(help=_HELP)
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="How many will run at most.")
@click.option("--json", "as_json_text", is_flag=True, help="Answer in JSON.")
def check(*, replicas: int, as_json_text: bool) -> None:
    """Run the check; a user reads `_HELP`."""
    from collector.settings import Settings  # noqa: PLC0415 - --help need not load the drivers
    from transfer.environment import Environment  # noqa: PLC0415 - as above

    environment = Environment(os.environ)
    try:
        settings = Settings.read_from(environment)
    except WrongSettings as exc:
        findings = [
            wrong(each.variable, expected=each.expected, got=each.got, do="correct it") for each in exc.problems
        ]
        _print_findings(findings, as_json_text=as_json_text)
        sys.exit(2)
    findings = [_ignored(one) for one in environment.misspelt("COLLECTOR_")] + anyio.run(inspect, settings, replicas)
    _print_findings(findings, as_json_text=as_json_text)
    sys.exit(max(_STATUS[finding.level] for finding in findings))


def _ignored(one: Misspelt) -> Finding:
    do = f"set {one.meant} in its place" if one.meant else "remove it, or look for its name in docs/settings.md"
    return warning(one.variable, expected="a known variable", got="one that is ignored", do=do)


async def inspect(settings: Settings, replicas: int) -> list[Finding]:
    """Read the facts of both servers and judge them. NATS comes first: its loggers tell which collections matter."""
    from collector.check.files import judge_files, sink_of  # noqa: PLC0415
    from collector.check.mongodb_facts import read_mongodb  # noqa: PLC0415
    from collector.check.mongodb_findings import judge_mongodb  # noqa: PLC0415
    from collector.check.nats_facts import read_nats  # noqa: PLC0415
    from collector.check.nats_findings import Plan, judge_nats  # noqa: PLC0415
    from collector.settings import Sink  # noqa: PLC0415

    names = Names(settings.namespace)
    plan = Plan(names=names, replicas=replicas, held=settings.most_held, ack_wait=settings.ack_wait)
    nats = await read_nats(settings.nats, names)
    loggers = [logger for logger in nats.loggers if logger.spec is not None]
    findings = [*judge_nats(nats, plan), *judge_files(settings, loggers)]
    if settings.database is not None:
        loggers = [logger for logger in loggers if sink_of(logger, settings) is Sink.MONGODB]
        keys = [logger.key for logger in loggers]
        mongodb = await to_thread.run_sync(read_mongodb, settings.database.read(), names, keys)
        findings += judge_mongodb(mongodb, loggers, names)
    return findings


def _print_findings(findings: Sequence[Finding], *, as_json_text: bool) -> None:
    if as_json_text:
        click.echo(json.dumps(as_json(findings), indent=2))
        return
    for finding in findings:
        click.echo(f"{click.style(f'{finding.level:<8}', fg=_COLOURS[finding.level])} {finding.line}")
    click.echo(", ".join(f"{count} {level}" for level, count in counted(findings).items()))
