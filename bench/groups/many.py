"""Many loggers: how long until all are consumed, what they cost at rest, what one hot logger does to the quiet ones.

All consumed: from the start of the replica's process until every durable, none of which was there, has a pull request
that waits. The latency of quiet loggers is that of entries published to them one after another, 20 a second, until
they are found by their `_id` with majority read concern, looked for every 5 ms: first alone, then while the backlog of
a hot logger drains, whose entries a second are counted over the same time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import declaring
from bench.backlog import publish
from bench.entries import Form, Traffic
from bench.fleet import Fleet
from bench.probes import Probes
from bench.processes import memory_mib, peak_mib, reset_peak
from bench.reader import quantiles_ms
from bench.waiting import until_consuming, until_delivered, waiting
from bench.wire import wired

if TYPE_CHECKING:
    from bench.stand import Space, Stand
    from collector.local import Replica

NAME = "many loggers"
_HOT = "hot"


def measure(stand: Stand) -> None:
    """Declare the loggers once, and measure a fresh replica in each round."""
    count = stand.plan.loggers
    with stand.space() as space:
        fleet = Fleet(stand, space, count)
        fleet.declare()
        quiet = Probes(stand, space, fleet.keys)
        for _ in stand.rounds():
            stand.progress.doing(f"starting a replica for {count} loggers")
            fleet.forget_durables()
            started = time.perf_counter()
            with stand.replicas(space) as (replica,), wired(stand.nats.port) as wire:
                seconds = until_consuming(wire, space, fleet.keys) - started
                stand.figures.add(NAME, f"{count:,} loggers start", {"all consuming s": seconds})
                _measure_rest(stand, replica)
                stand.progress.doing(f"entries over {count} loggers")
                stand.figures.add(NAME, "published to all", fleet.flow(replica, stand.plan.flow_entries))
                _measure_hot(stand, space, quiet)
                _measure_scrape(stand, replica)
                stand.figures.add(
                    NAME, "memory after all", {"MiB": memory_mib(replica.pid), "peak MiB": peak_mib(replica.pid)}
                )


def _measure_rest(stand: Stand, replica: Replica) -> None:
    seconds = stand.plan.idle_seconds
    stand.progress.doing(f"{seconds:.0f} s without entries")
    meter = stand.meter([replica])
    time.sleep(seconds)
    cores = {f"{name} % of a core": cpu / seconds * 100 for name, cpu in meter.used().items()}
    stand.figures.add(NAME, f"{stand.plan.loggers:,} loggers at rest", cores | {"MiB": memory_mib(replica.pid)})


def _measure_hot(stand: Stand, space: Space, quiet: Probes) -> None:
    stand.progress.doing("quiet loggers alone")
    stand.figures.add(NAME, "quiet ones alone", quantiles_ms(quiet.measure(stand.plan.quiet_seconds)))
    stand.progress.doing("quiet loggers beside a hot one")
    declaring.make_streams(stand.nats, space, [_HOT])
    publish(stand.nats.port, Traffic(Form.GO, 300), [space.names.subject(_HOT)], stand.plan.hot_backlog)
    with wired(stand.nats.port) as wire:
        declaring.declare(stand.nats, space, [_HOT])
        started = until_delivered(wire, space, _HOT)
        (before,) = waiting(wire, space, [_HOT])
        latencies = quiet.measure(stand.plan.quiet_seconds)
        (after,), seconds = waiting(wire, space, [_HOT]), time.perf_counter() - started
    measured = quantiles_ms(latencies) | {"entries/s": (before - after) / seconds}
    stand.figures.add(NAME, "quiet ones beside a hot one", measured)
    declaring.remove(stand.nats, space, _HOT)
    space.database.drop_collection(space.names.collection(_HOT))


def _measure_scrape(stand: Stand, replica: Replica) -> None:
    stand.progress.doing("one scrape of /metrics")
    reset_peak(replica.pid)
    resident, meter, started = memory_mib(replica.pid), stand.meter([replica]), time.perf_counter()
    text = replica.get("/metrics")[1]
    seconds = time.perf_counter() - started
    measured = {"s": seconds, "CPU s": meter.used()["collector"], "MiB of text": len(text) / 1024**2}
    measured["extra MiB"] = peak_mib(replica.pid) - resident
    stand.figures.add(NAME, "one scrape of /metrics", measured)
