"""The command line of the benchmark."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.checkout import Checkout
from bench.ending import fail, leave
from bench.errors import NotAsExpected
from bench.figures import Figures
from bench.machine import described
from bench.plan import FULL, QUICK, Load
from bench.plot import draw
from bench.processes import is_available
from bench.progress import Progress
from bench.run import GROUPS, measure
from bench.tables import group_tables, thresholds_table
from bench.thresholds import THRESHOLDS
from collector.local import MissingServer

if TYPE_CHECKING:
    from bench.plan import Plan

_RESULTS = Path(__file__).parent / "results"
_PIPE_WIDTH = 150


def _words(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    words = [word.strip() for word in value.split(",") if word.strip()]
    if unknown := [word for word in words if word not in GROUPS]:
        raise click.BadParameter(f"expected some of {', '.join(GROUPS)}, got {', '.join(unknown)}")
    return words


def _loads(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[Load, ...]:
    try:
        return tuple(Load.parse(text.strip()) for text in value.split(",")) if value else ()
    except (TypeError, ValueError):
        raise click.BadParameter(f"expected loads as 100x10 or 100x10x4, got {value}") from None


def _plan(plan: Plan, loads: tuple[Load, ...], loggers: int | None, against: Path | None) -> Plan:
    plan = replace(plan, loads=loads or plan.loads, loggers=loggers or plan.loggers)
    return replace(plan, against=Checkout.at(against)) if against else plan


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", default=",".join(GROUPS), callback=_words, metavar="GROUP,...", help="Only these groups.")
@click.option("--quick", is_flag=True, help="Small sizes: to try the benchmark out. The figures count for nothing.")
@click.option("--repeat", default=5, show_default=True, type=click.IntRange(1), help="Rounds; their median counts.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Where results go; the plot beside it as .svg.")
@click.option("--loads", callback=_loads, metavar="LOAD,...", help="Trickles to measure: LOGGERSxRATE[xREPLICAS].")
@click.option("--loggers", type=click.IntRange(1), help="How many loggers the group many has, instead of the plan's.")
@click.option("--against", type=click.Path(path_type=Path, exists=True), help="A checkout to compare trickles with.")
def main(*, only: list[str], quick: bool, repeat: int, path: Path | None, **sizes: Any) -> None:
    """Measure the collector on real servers of its own, and compare it with what the servers alone do.

    \b
    ceiling   what mongod takes and nats-server delivers with nobody between them
    drain     a backlog of 300,000 entries: rate, part of the ceiling, CPU, memory
    latency   publish to visible at 100 and 1,000 entries a second
    many      1,000 loggers: start, rest, a hot one among quiet ones
    trickle   a few entries a second to each of many loggers: CPU an entry of the three processes, latency
    archive   a stream of 300,000 entries captured into files: rate, CPU, memory
    live      a new logger's first document
    client    publishing: rate and CPU in the caller
    sending   handing over in the background, beside the standard library's queue and another shipper's client
    growth    backlogs of 10,000 to 1,000,000, 1 to 1,000 loggers

    Servers and replicas run on loopback in a temporary folder, and are gone afterwards. Every case is measured once in
    each round, so that what is compared is measured close together; a figure is the median of the rounds, ± is half the
    range in percent. All of it takes about three quarters of an hour; have the machine to yourself. Results go to
    bench/results as JSON and as a plot. Exit status 1: the collector did not do what was to be measured. Linux only.

    \b
    Examples:
      python -m bench --quick                      all groups, small, a few minutes
      python -m bench --only drain --repeat 5      the drains and their ceilings
      python -m bench --only many --loggers 10000  start, rest and memory with ten times as many loggers
      python -m bench --only trickle --repeat 1 --loads 100x10,100x10x4 --against ../before
          100 loggers with 10 entries a second each, with one replica and with four, of this checkout and of another
    """  # noqa: D301 - a backspace keeps click from filling the lines
    if not is_available():
        fail("bench: expected Linux, which counts CPU time and memory in /proc")
    signal.signal(signal.SIGTERM, leave)
    figures, progress = Figures(), Progress(sys.stderr)
    try:
        plan = _plan(QUICK if quick else FULL, **sizes)
        servers, failures = measure(only, plan, repeat, figures, progress)
    except (MissingServer, NotAsExpected) as exc:
        fail(f"bench: {exc}")
    except (KeyboardInterrupt, SystemExit):
        progress.clear()
        _say(figures, quick=quick)
        click.echo("Interrupted: that is what was measured until then; nothing is written.", err=True)
        raise
    about = described(servers) | ({"against": plan.against.commit} if plan.against else {})
    _say(figures, quick=quick)
    _write(path or _RESULTS / ("quick.json" if quick else "latest.json"), about, figures, plan, failures)
    if failures:
        fail("bench: " + "\n".join(failures))


def _say(figures: Figures, *, quick: bool) -> None:
    width = shutil.get_terminal_size((_PIPE_WIDTH, 0)).columns
    for table in group_tables(figures, width):
        click.echo(f"{table}\n")
    click.echo(thresholds_table(figures))
    if quick:
        click.echo("Measured with small sizes (--quick): what is met or not is no judgement.")


def _write(path: Path, about: dict[str, Any], figures: Figures, plan: Plan, failures: list[str]) -> None:
    thresholds = [
        {"what": one.what, "wanted": one.wanted, "found": one.found(figures), "met": one.is_met(figures)}
        for one in THRESHOLDS
    ]
    measured = {"failures": failures, "figures": [figure.as_json() for figure in figures], "thresholds": thresholds}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | measured, indent=1, ensure_ascii=False) + "\n")
    click.echo(f"\n{path}")
    machine = about["machine"]
    title = f"transfer-collector {about['commit']}, {machine['cores']} cores, {about['date'][:10]}"
    if (picture := draw(figures, plan, title)) is not None:
        path.with_suffix(".svg").write_text(picture)
        click.echo(path.with_suffix(".svg"))
