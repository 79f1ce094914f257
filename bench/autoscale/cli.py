"""The command line of the simulated autoscaling."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from bench.autoscale.picture import draw
from bench.autoscale.recipe import Recipe
from bench.autoscale.run import run
from bench.autoscale.verdict import findings
from bench.ending import fail, leave
from bench.errors import NotAsExpected
from bench.machine import described
from bench.progress import Progress
from collector.local import MissingServer, ServerDidNotEnd, ServerDidNotStart

_ROOT = Path(__file__).parents[2]
SHIPPED = _ROOT / "deploy" / "kubernetes" / "keda-metrics-api" / "scaler.yaml"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--picture", type=click.Path(path_type=Path), help="Where the picture goes, as SVG.")
def main(picture: Path | None) -> None:
    """Show a shipped scaling recipe at work: a tenfold burst, real replicas, Kubernetes' autoscaler simulated.

    Least, most and policies are those of deploy/kubernetes/keda-metrics-api, in a time ten times as fast; the metric is
    what a replica answers. nats-server, mongod and replicas run on loopback in a temporary folder, about two minutes,
    and are gone afterwards. Exit status 1: something did not come out as it has to.
    """
    signal.signal(signal.SIGTERM, leave)
    progress = Progress(sys.stderr)
    try:
        result = run(Recipe.read(SHIPPED), progress)
    except (MissingServer, NotAsExpected, ServerDidNotEnd, ServerDidNotStart) as exc:
        fail(f"autoscale: {exc}")
    finally:
        progress.clear()
    found = findings(result)
    for one in found:
        click.echo(f"{'yes' if one.met else 'NO ':3}  {one.what}: {one.found}")
    if picture is not None:
        about = described({})
        title = f"A tenfold burst and the replicas it gets: {about['machine']['cores']} cores, {about['date'][:10]}"
        picture.write_text(draw(result, title))
        click.echo(picture)
    if not all(one.met for one in found):
        fail("autoscale: not everything came out as it has to")
