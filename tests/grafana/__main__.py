"""`python -m tests.grafana`: the stage for some minutes under a changing load, with failures, to be looked at."""

from __future__ import annotations

import argparse
import math
import signal
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import create_task_group, current_time, open_signal_receiver, sleep, to_thread

from tests.grafana.stage import stage

if TYPE_CHECKING:
    from tests.grafana.stage import Source, Stage

_WAVES = 4
_BURST = (0.25, 0.35)
"""From which to which share of the time the logger `web` gets three times as much."""


async def _troubles(one: Stage, seconds: float) -> None:
    """Let MongoDB hang, kill a replica and start it again, restart NATS, let MongoDB hang for a moment."""
    await sleep(seconds * 0.42)
    await _hang(one, 40)
    await sleep(seconds * 0.18)
    await to_thread.run_sync(one.replicas[1].kill)
    await sleep(seconds * 0.06)
    await to_thread.run_sync(one.replicas[1].start)
    await sleep(seconds * 0.06)
    await to_thread.run_sync(one.servers.nats.restart)
    await sleep(seconds * 0.06)
    await _hang(one, 4)


async def _hang(one: Stage, seconds: float) -> None:
    one.servers.mongod.pause()
    try:
        await sleep(seconds)
    finally:
        one.servers.mongod.resume()


async def _run(seconds: float, port: int) -> None:
    async with stage({}, port=port) as one, create_task_group() as group:
        started = current_time()

        def pace(source: Source) -> float:
            past = (current_time() - started) / seconds
            burst = 3 if source.key == "web" and _BURST[0] < past < _BURST[1] else 1
            return burst * (1 + 0.5 * math.sin(past * _WAVES * math.tau))

        group.start_soon(one.publish, pace)
        group.start_soon(_troubles, one, seconds)
        print(f"Prometheus answers at {one.prometheus.url}; Ctrl-C ends everything")  # noqa: T201
        with open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                group.cancel_scope.cancel()
                return


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.grafana", description=__doc__)
    parser.add_argument("--seconds", type=float, default=480, help="how long the story takes (480)")
    parser.add_argument("--port", type=int, default=9090, help="of Prometheus (9090)")
    given = parser.parse_args()
    anyio.run(partial(_run, given.seconds, given.port))


main()
