"""The command: which worlds are played for how many rounds, what is said meanwhile, and the exit status."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from collector.demo.signals import until_signal
from collector.local import find_mongod, find_nats_server
from tests.chaos.faults.table import FAULTS
from tests.chaos.game import Game, Outcome, Round
from tests.chaos.report import as_json, lines
from tests.chaos.world import arbiter, cluster, single

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.faults.fault import Fault

_ROUNDS = 60
_SHARES = {"cluster": 4, "arbiter": 12}
"""One round of so many is played in these worlds, the others in that of single servers."""
_WORLDS = {"single": single, "cluster": cluster, "arbiter": arbiter}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played in one world."""

    world: str
    rounds: int
    first: int
    faults: tuple[Fault, ...]


def plans(rounds: int, world: str, pattern: str) -> list[Plan]:
    """Share the rounds out; a world without a fault that matches has none."""
    named = [fault for fault in FAULTS if pattern.lower() in fault.name.lower()]
    suited = {name: tuple(fault for fault in named if getattr(fault, name)) for name in _WORLDS}
    faults = {name: suited[name] for name in _WORLDS if suited[name] and world in {"all", name}}
    found, first = [], 1
    for name, share in _shares(rounds, [*faults]).items():
        found.append(Plan(name, share, first, faults[name]))
        first += share
    return [plan for plan in found if plan.rounds]


def _shares(rounds: int, worlds: Sequence[str]) -> dict[str, int]:
    """Return how many rounds each of these worlds has; the first one has what the others leave."""
    others = {name: rounds // _SHARES[name] for name in worlds[1:]}
    return {name: others.get(name, rounds - sum(others.values())) for name in worlds}


async def play(
    todo: Sequence[Plan], seed: int, *, rate: float, replicas: int, logs: Path | None, say: Progress
) -> list[Outcome]:
    """Play one world after the other; the logs of one in which something went wrong are kept in `logs`."""
    outcomes = []
    if logs is not None:
        shutil.rmtree(logs, ignore_errors=True)  # those of an earlier run of the same seed
    for plan in todo:
        say.note(f"setting up the world of {plan.world} servers")
        async with _WORLDS[plan.world](rate, replicas) as world:
            outcome = await Game(world, plan.faults, seed, say.round).play(plan.rounds, plan.first)
            outcomes.append(outcome)
            if logs is not None and not outcome.good:
                _keep_logs(world.folder, logs / plan.world)
    return outcomes


def _keep_logs(folder: Path, target: Path) -> None:
    for log in (*folder.rglob("*.log"), *folder.rglob("*.out")):
        kept = target / log.parent.name / log.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)


class Progress:
    """Tells a terminal what is going on, and a pipe nothing."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._shown = sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Say something."""
        if self._shown:
            click.echo(text, err=True)

    def round(self, played: Round) -> None:
        """Say what a round was like."""
        what = " + ".join(played.faults)
        trouble = click.style(f"  {played.trouble}", fg="red") if played.trouble else ""
        self.note(f"{played.number:>4}/{self._rounds} {what}: stop {played.longest_stop:.1f} s{trouble}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, help="Play the same rounds again; without it, a new seed is drawn and printed.")
@click.option("--rounds", default=_ROUNDS, show_default=True, type=click.IntRange(1), help="A round takes about 5 s.")
@click.option("--only", default="", metavar="TEXT", help="Only faults with this in their names; see --list.")
@click.option("--world", type=click.Choice(["all", *_WORLDS]), default="all", show_default=True)
@click.option("--rate", default=400.0, show_default=True, help="Entries a second into each of the three loggers.")
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(2), help="How many collectors run.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where the whole result goes.")
@click.option("--list", "listed", is_flag=True, help="Print the names of all faults, and do nothing.")
def main(
    *, seed: int | None, rounds: int, only: str, world: str, rate: float, replicas: int, path: Path | None, listed: bool
) -> None:
    """Break NATS, MongoDB and replicas while producers publish, and compare what was confirmed with what is stored.

    Starts real servers and replicas in a temporary folder. Producers publish to a plain collection, a time-series
    collection and in bundles, and remember each entry that JetStream confirmed. In each round faults drawn from the
    seed are struck and mended, and a nats-server is killed once. In the end each confirmed entry has to be once where
    it belongs: in its collection, or, when it is poison, in the dead letters. Exit status 0: that is so. 1: something
    was lost, is there twice or is wrong, or a flow did not come back. What went wrong is printed; the JSON has every
    round and every harmed entry, and the logs of servers and replicas are kept beside it.

    \b
    Examples:
      python -m tests.chaos
      python -m tests.chaos --seed 4711 --rounds 500
      python -m tests.chaos --only SIGSTOP --rounds 10
    """  # noqa: D301 - a backspace keeps click from filling the lines
    if listed:
        click.echo("\n".join(fault.name for fault in FAULTS))
        return
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    path = path or Path(tempfile.gettempdir(), f"chaos-{seed}.json")
    todo = plans(rounds, world, only)
    if not todo:
        raise click.UsageError(f"expected --only to be part of the name of a fault, got {only!r}; see --list")
    click.echo(f"seed {seed}, {rounds} rounds")
    playing = partial(
        play, todo, seed, rate=rate, replicas=replicas, logs=path.with_suffix(".logs"), say=Progress(rounds)
    )
    played = anyio.run(partial(until_signal, playing))
    if isinstance(played, signal.Signals):
        click.echo(f"ended by {played.name}; all that was started is gone", err=True)
        sys.exit(128 + played)
    settings = {"rounds": rounds, "only": only, "world": world, "rate": rate, "replicas": replicas}
    path.write_text(as_json(played, seed, _versions(), settings))
    click.echo("\n".join(lines(played)))
    click.echo(f"seed {seed}; the whole result is in {path}")
    sys.exit(0 if all(outcome.good for outcome in played) else 1)


def _versions() -> dict[str, str]:
    programs = {"nats-server": find_nats_server(), "mongod": find_mongod()}
    said = {
        name: subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
        for name, program in programs.items()
    }
    return said | {name: version(name) for name in ("transfer-collector", "nats-py", "pymongo", "anyio")}
