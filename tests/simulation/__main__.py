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

from tests.simulation.campaign import Findings, campaign
from tests.simulation.protocols import PROTOCOLS
from tests.simulation.report import counts, sentence, table

if TYPE_CHECKING:
    from tests.simulation.schedule import Verdict

_ENOUGH = 20_000
"""Schedules within which a rule that is switched off has to lead to a counterexample."""
_LAST_LINES = 40


@click.command()
@click.option("--protocol", type=click.Choice(list(PROTOCOLS)), help="One alone; both when not given.")
@click.option("--seed", type=int, help="Of the first schedule; the next ones count up. Random when not given.")
@click.option("--schedules", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--rule-off", metavar="RULE", help="Look for a counterexample without this rule of the protocol.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="one for each core")
@click.option("--replay", type=int, metavar="SEED", help="Print all that happens in one schedule of the protocol.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line instead of tables.")
def main(
    *,
    protocol: str | None,
    seed: int | None,
    schedules: int,
    rule_off: str | None,
    jobs: int,
    replay: int | None,
    as_json: bool,
) -> None:
    """Drive the protocols for time-series collections and for the archive through random schedules in virtual time."""
    if protocol is None and (rule_off is not None or replay is not None):
        raise click.UsageError("expected --protocol beside --rule-off and --replay: each protocol has its own")
    if protocol is not None and rule_off not in {None, *PROTOCOLS[protocol].off}:
        raise click.UsageError(f"expected --rule-off to be one of {', '.join(PROTOCOLS[protocol].off)}")
    if protocol is not None and replay is not None:
        sys.exit(_replay(protocol, replay, rule_off))
    first = seed if seed is not None else secrets.randbelow(1_000_000_000)
    status = 0
    for name in PROTOCOLS if protocol is None else [protocol]:
        if not as_json:
            click.echo(f"{name}, seed {first}")
        status |= _simulate(name, first, schedules, rule_off, jobs, as_json=as_json)
    sys.exit(status)


def _simulate(name: str, first: int, schedules: int, rule_off: str | None, jobs: int, *, as_json: bool) -> int:
    """Run the schedules of one protocol, and then look for a counterexample without each rule; return the status."""
    started = time.monotonic()
    findings = campaign(first, schedules, rule_off, jobs, _progress, name)
    _clear()
    _print(name, findings, first, time.monotonic() - started, as_json=as_json)
    if findings.broken is not None:
        _tell(name, findings.broken, rule_off)
        return 1
    return _each_rule_off(name, first, jobs, as_json=as_json) if rule_off is None else 0


def _each_rule_off(name: str, first: int, jobs: int, *, as_json: bool) -> int:
    """Look for a counterexample without each rule; return the exit status."""
    missing = 0
    for off, rules in PROTOCOLS[name].off.items():
        findings = campaign(first, _ENOUGH, off, jobs, _progress, name)
        _clear()
        broken = findings.broken
        missing += broken is None
        if as_json:
            found = {"protocol": name, "rule_off": off, "seed": broken and broken.seed, "what": broken and broken.what}
            click.echo(json.dumps(found))
        else:
            what = f"seed {broken.seed}: {broken.what}" if broken else f"NOTHING in {_ENOUGH:,} schedules"
            click.echo(f"{off:10} {what[:60]:60} {sentence(rules)}")
    return 1 if missing else 0


def _print(name: str, findings: Findings, first: int, seconds: float, *, as_json: bool) -> None:
    protocol = PROTOCOLS[name]
    if as_json:
        counted = counts(findings, protocol)
        click.echo(json.dumps({"protocol": name, "seed": first, "seconds": round(seconds, 1), **counted}))
    else:
        click.echo(table(findings, protocol))
        click.echo(f"{seconds:.0f} s, {1000 * seconds / findings.schedules:.2f} ms a schedule")


def _tell(name: str, broken: Verdict, rule_off: str | None) -> None:
    """Print how the broken schedule ended, and how to see all of it."""
    lines: list[str] = []
    PROTOCOLS[name].run(broken.seed, PROTOCOLS[name].without(rule_off), lines.append)
    option = f" --rule-off {rule_off}" if rule_off is not None else ""
    click.echo("\n".join(lines[-_LAST_LINES:]), err=True)
    again = f"python -m tests.simulation --protocol {name} --replay {broken.seed}{option}"
    click.echo(f"{broken.what}; all of it: {again}", err=True)


def _replay(name: str, seed: int, rule_off: str | None) -> int:
    verdict = PROTOCOLS[name].run(seed, PROTOCOLS[name].without(rule_off), click.echo)
    click.echo(verdict.what or PROTOCOLS[name].done)
    return 1 if verdict.broken else 0


def _progress(findings: Findings) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{findings.schedules:,} schedules\033[K", nl=False, err=True)


def _clear() -> None:
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)


if __name__ == "__main__":
    main()
