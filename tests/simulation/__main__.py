"""`python -m tests.simulation`: 100,000 random schedules, then a counterexample for each rule that is switched off.

Exit status 1 when a promise was broken with all rules on, or when a rule is off and nothing came of it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from typing import TYPE_CHECKING

import click

from tests.simulation.campaign import Findings, campaign, rules_without
from tests.simulation.report import counts, sentence, table
from tests.simulation.rules import OFF
from tests.simulation.schedule import run_schedule

if TYPE_CHECKING:
    from tests.simulation.schedule import Verdict

_ENOUGH = 20_000
"""Schedules within which a rule that is switched off has to lead to a counterexample."""
_LAST_LINES = 40


@click.command()
@click.option("--seed", type=int, help="Of the first schedule; the next ones count up. Random when not given.")
@click.option("--schedules", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--rule-off", type=click.Choice(list(OFF)), help="Look for a counterexample without this rule.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="one for each core")
@click.option("--replay", type=int, metavar="SEED", help="Print all that happens in one schedule.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line instead of tables.")
def main(
    *, seed: int | None, schedules: int, rule_off: str | None, jobs: int, replay: int | None, as_json: bool
) -> None:
    """Drive the protocol for time-series collections through random schedules in virtual time."""
    if replay is not None:
        sys.exit(_replay(replay, rule_off))
    first = seed if seed is not None else secrets.randbelow(1_000_000_000)
    if not as_json:
        click.echo(f"seed {first}")
    started = time.monotonic()
    findings = campaign(first, schedules, rule_off, jobs, _progress)
    _clear()
    _print(findings, first, time.monotonic() - started, as_json=as_json)
    if findings.broken is not None:
        _tell(findings.broken, rule_off)
        sys.exit(1)
    if rule_off is None:
        sys.exit(_each_rule_off(first, jobs, as_json=as_json))


def _each_rule_off(first: int, jobs: int, *, as_json: bool) -> int:
    """Look for a counterexample without each rule; return the exit status."""
    missing = 0
    for off, rules in OFF.items():
        findings = campaign(first, _ENOUGH, off, jobs, _progress)
        _clear()
        broken = findings.broken
        missing += broken is None
        if as_json:
            found = {"rule_off": off, "seed": broken and broken.seed, "what": broken and broken.what}
            click.echo(json.dumps(found))
        else:
            what = f"seed {broken.seed}: {broken.what}" if broken else f"NOTHING in {_ENOUGH:,} schedules"
            click.echo(f"{off:8} {what:45} {sentence(rules)}")
    return 1 if missing else 0


def _print(findings: Findings, first: int, seconds: float, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"seed": first, "seconds": round(seconds, 1), **counts(findings)}))
    else:
        click.echo(table(findings))
        click.echo(f"{seconds:.0f} s, {1000 * seconds / findings.schedules:.2f} ms a schedule")


def _tell(broken: Verdict, rule_off: str | None) -> None:
    """Print how the broken schedule ended, and how to see all of it."""
    lines: list[str] = []
    run_schedule(broken.seed, rules_without(rule_off), lines.append)
    option = f" --rule-off {rule_off}" if rule_off is not None else ""
    click.echo("\n".join(lines[-_LAST_LINES:]), err=True)
    click.echo(f"{broken.what}; all of it: python -m tests.simulation --replay {broken.seed}{option}", err=True)


def _replay(seed: int, rule_off: str | None) -> int:
    verdict = run_schedule(seed, rules_without(rule_off), click.echo)
    click.echo(verdict.what or "nothing lost, nothing twice, everything stored")
    return 1 if verdict.broken else 0


def _progress(findings: Findings) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{findings.schedules:,} schedules\033[K", nl=False, err=True)


def _clear() -> None:
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)


if __name__ == "__main__":
    main()
