"""One run: every group on fresh servers, one after another."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

from bench.errors import NotAsExpected
from bench.groups import archive, ceiling, client, drain, growth, latency, live, many, sending, trickle
from bench.stand import Stand
from bench.wire import wired
from collector.local import local_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.figures import Figures
    from bench.plan import Plan
    from bench.progress import Progress

GROUPS: dict[str, tuple[str, Callable[[Stand], None]]] = {
    "ceiling": (ceiling.NAME, ceiling.measure),
    "drain": (drain.NAME, drain.measure),
    "latency": (latency.NAME, latency.measure),
    "many": (many.NAME, many.measure),
    "trickle": (trickle.NAME, trickle.measure),
    "archive": (archive.NAME, archive.measure),
    "live": (live.NAME, live.measure),
    "client": (client.NAME, client.measure),
    "sending": (sending.NAME, sending.measure),
    "growth": (growth.NAME, growth.measure),
}
"""By the word that chooses it, in the order in which they are measured."""


def measure(
    chosen: Sequence[str], plan: Plan, repeat: int, figures: Figures, progress: Progress
) -> tuple[dict[str, str], list[str]]:
    """Measure the chosen groups; return the servers' versions, and a sentence for each group that failed.

    The drain measures the ceilings itself, in its own rounds, so they are not measured twice.
    """
    versions: dict[str, str] = {}
    failures: list[str] = []
    for word, (name, group) in GROUPS.items():
        if word not in chosen or (word == "ceiling" and "drain" in chosen):
            continue
        progress.group(name)
        with _stand(plan, repeat, figures, progress) as stand:
            versions = _versions(stand)
            try:
                group(stand)
            except NotAsExpected as exc:
                failures.append(f"{name}: {exc}")
    progress.clear()
    return versions, failures


@contextmanager
def _stand(plan: Plan, repeat: int, figures: Figures, progress: Progress) -> Iterator[Stand]:
    with local_servers() as servers:
        client: MongoClient[dict[str, Any]] = MongoClient(servers.mongod.url, w="majority", retryWrites=False)
        with client:
            yield Stand(servers, client, plan, figures, progress, repeat)


def _versions(stand: Stand) -> dict[str, str]:
    with wired(stand.nats.port) as wire:
        wire.request("$JS.API.INFO")
        return {"nats-server": str(wire.server["version"]), "mongod": stand.mongo.server_info()["version"]}
