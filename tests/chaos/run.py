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
from tests.chaos.archive import faults as archive_faults
from tests.chaos.archive import world as archive
from tests.chaos.archive.game import ArchiveGame
from tests.chaos.archive.world import ArchiveWorld
from tests.chaos.faults.fault import Fault
from tests.chaos.faults.table import FAULTS
from tests.chaos.game import Game, Outcome, Round
from tests.chaos.report import as_json, lines
from tests.chaos.world import arbiter, cluster, single
from tests.support.object_stores import INSTALL_AZURITE, find_azurite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from tests.chaos.archive.faults import ArchiveFault
    from tests.chaos.world import World

_ROUNDS = 60
_ARCHIVE = "archive"
_SHARES = {"single": 20, "cluster": 15, "arbiter": 5, **dict.fromkeys(archive.WORLDS, 5)}
"""How the rounds are shared out over the worlds."""
_WORLDS: Mapping[str, Callable[[float, int], AbstractAsyncContextManager[World | ArchiveWorld]]] = {
    "single": single,
    "cluster": cluster,
    "arbiter": arbiter,
    **archive.WORLDS,
}
_ALL: tuple[Fault | ArchiveFault, ...] = (*FAULTS, *archive_faults.FAULTS)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played in one world."""

    world: str
    rounds: int
    first: int
    faults: tuple[Fault | ArchiveFault, ...]


def plans(rounds: int, world: str, pattern: str) -> list[Plan]:
    """Share the rounds out; a world without a fault that matches has none."""
    named = [fault for fault in _ALL if pattern.lower() in fault.name.lower()]
    suited = {name: tuple(fault for fault in named if fault.suits(name)) for name in _WORLDS}
    asked = [name for name in _WORLDS if world in {"all", name} or name.startswith(f"{world}-")]
    if find_azurite() is None:
        asked = [name for name in asked if name != "archive-azure"]
    faults = {name: suited[name] for name in asked if suited[name]}
    found, first = [], 1
    for name, share in _shares(rounds, [*faults]).items():
        found.append(Plan(name, share, first, faults[name]))
        first += share
    return [plan for plan in found if plan.rounds]


def _shares(rounds: int, worlds: Sequence[str]) -> dict[str, int]:
    """Return how many rounds each of these worlds has; the first one has what the others leave."""
    total = sum(_SHARES[name] for name in worlds)
    others = {name: rounds * _SHARES[name] // total for name in worlds[1:]}
    return {name: others.get(name, rounds - sum(others.values())) for name in worlds}


async def play(
    todo: Sequence[Plan],
    seed: int,
    outcomes: list[Outcome],
    *,
    rate: float,
    replicas: int,
    logs: Path | None,
    say: Progress,
) -> list[Outcome]:
    """Play one world after the other, and add its outcome to `outcomes`, which are returned.

    The logs of a world in which something went wrong are kept in `logs`.
    """
    if logs is not None:
        shutil.rmtree(logs, ignore_errors=True)  # those of an earlier run of the same seed
    for plan in todo:
        say.note(f"setting up the world of {plan.world} servers")
        async with _WORLDS[plan.world](rate, replicas) as world:
            outcome = await game_of(world, plan, seed, say.round).play(plan.rounds, plan.first)
            outcomes.append(outcome)
            if logs is not None and not outcome.good:
                _keep_logs(world.folder, logs / plan.world)
    return outcomes


def game_of(
    world: World | ArchiveWorld, plan: Plan, seed: int, on_round: Callable[[Round], None]
) -> Game | ArchiveGame:
    """Return the game that is played in a world."""
    if isinstance(world, ArchiveWorld):
        faults = [fault for fault in plan.faults if isinstance(fault, archive_faults.ArchiveFault)]
        return ArchiveGame(world, faults, seed, on_round)
    return Game(world, [fault for fault in plan.faults if isinstance(fault, Fault)], seed, on_round)


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
        """Say what a round was like; a pipe is told of trouble alone."""
        what = " + ".join(played.faults)
        trouble = click.style(f"  {played.trouble}", fg="red") if played.trouble else ""
        if self._shown or trouble:
            click.echo(f"{played.number:>4}/{self._rounds} {what}: stop {played.longest_stop:.1f} s{trouble}", err=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, help="Play the same rounds again; without it, a new seed is drawn and printed.")
@click.option("--rounds", default=_ROUNDS, show_default=True, type=click.IntRange(1), help="A round takes about 5 s.")
@click.option("--only", default="", metavar="TEXT", help="Only faults with this in their names; see --list.")
@click.option("--world", type=click.Choice(["all", _ARCHIVE, *_WORLDS]), default="all", show_default=True)
@click.option("--rate", default=400.0, show_default=True, help="Entries a second into each of the three loggers.")
@click.option("--replicas", default=3, show_default=True, type=click.IntRange(2), help="How many collectors run.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Where the whole result goes.")
@click.option("--list", "listed", is_flag=True, help="Print the names of all faults, and do nothing.")
def main(
    *, seed: int | None, rounds: int, only: str, world: str, rate: float, replicas: int, path: Path | None, listed: bool
) -> None:
    """Break servers, stores and replicas while producers publish, and compare what was confirmed with what is stored.

    Starts real servers and replicas in a temporary folder. Producers publish to a plain collection, a time-series
    collection and in bundles, and remember each entry that JetStream confirmed. In each round faults drawn from the
    seed are struck and mended, and a nats-server is killed once. In the end each confirmed entry has to be once where
    it belongs: in its collection, or, when it is poison, in the dead letters. Exit status 0: that is so. 1: something
    was lost, is there twice or is wrong, or a flow did not come back. The worlds of the archive do the same to
    `collector archive run` with a folder, S3 and Azure: each message has to be in exactly one block, no block may ever
    change, and the records of the log have to follow each other. What went wrong is printed; the JSON has every
    round and every harmed entry, and the logs of servers and replicas are kept beside it.

    \b
    Examples:
      python -m tests.chaos
      python -m tests.chaos --seed 4711 --rounds 500
      python -m tests.chaos --only SIGSTOP --rounds 10
    """  # noqa: D301 - a backspace keeps click from filling the lines
    if listed:
        click.echo("\n".join(dict.fromkeys(fault.name for fault in _ALL)))
        return
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    path = path or Path(tempfile.gettempdir(), f"chaos-{seed}.json")
    todo = plans(rounds, world, only)
    if not todo:
        raise click.UsageError(f"expected --only to be part of the name of a fault, got {only!r}; see --list")
    if find_azurite() is None and any(plan.world in archive.WORLDS for plan in todo):
        click.echo(f"archive-azure is not played, as there is no azurite: {INSTALL_AZURITE}")
    click.echo(f"seed {seed}, {rounds} rounds")
    played: list[Outcome] = []
    playing = partial(
        play, todo, seed, played, rate=rate, replicas=replicas, logs=path.with_suffix(".logs"), say=Progress(rounds)
    )
    ended = anyio.run(partial(until_signal, playing))
    if played:
        settings = {"rounds": rounds, "only": only, "world": world, "rate": rate, "replicas": replicas}
        path.write_text(as_json(played, seed, _versions(), settings))
        click.echo("\n".join(lines(played)))
        click.echo(f"seed {seed}; the whole result is in {path}")
    if isinstance(ended, signal.Signals):
        worlds = f"of {len(todo)} worlds {len(played)} were played to their end"
        click.echo(f"ended by {ended.name}; {worlds}; all that was started is gone", err=True)
        sys.exit(128 + ended)
    sys.exit(0 if all(outcome.good for outcome in played) else 1)


def _versions() -> dict[str, str]:
    programs = {"nats-server": find_nats_server(), "mongod": find_mongod()}
    said = {
        name: subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
        for name, program in programs.items()
    }
    return said | {name: version(name) for name in ("transfer-collector", "nats-py", "pymongo", "anyio")}
