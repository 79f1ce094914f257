"""The worlds of the archive: NATS, a store, replicas that capture streams, publishers, and looks at the files."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from anyio import create_task_group, to_thread

from collector.demo.signals import in_threads
from collector.local import NatsServer
from tests.chaos.archive.capturer import Capturer
from tests.chaos.archive.captures import CAPTURES
from tests.chaos.archive.looks import Looks
from tests.chaos.archive.places import place_of
from tests.chaos.archive.published import Publisher
from tests.chaos.ledger import Ledger, State
from tests.chaos.proxy import Proxy
from tests.chaos.servers import nats_cluster, running, start_all
from tests.chaos.world import connected, patiently

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from nats.aio.client import Client

    from tests.chaos.archive.captures import Captured
    from tests.chaos.archive.places import Place
    from tests.chaos.ledger import Source

_SHARE = 0.1
"""Of the rate of a logger; a message here is a publish of its own."""


@dataclass
class ArchiveWorld:
    """All that can be struck, and all that is needed to judge."""

    name: str
    folder: Path
    place: Place
    nats: Sequence[NatsServer]
    captures: Sequence[Captured]
    capturers: list[Capturer]
    connection: Client
    nats_proxy: Proxy | None = None
    ledger: Ledger = field(default_factory=Ledger)
    publishers: dict[str, Publisher] = field(default_factory=dict)
    strikes: Counter[str] = field(default_factory=Counter)
    """How often each fault was struck in this round."""
    round: int = 0

    def __post_init__(self) -> None:
        self.jetstream = self.connection.jetstream(timeout=3.0)
        self.looks = Looks(self.place.store, Random(1), lambda: self.round)  # noqa: S311 - when it is looked at

    def of(self, stream: str) -> list[Capturer]:
        """Return the replicas that capture a stream."""
        return [one for one in self.capturers if one.captured.stream == stream]

    def arm(self, stream: str, *, do: str, when: str, of: str) -> Path:
        """Have the next replica that creates a record or a block of a stream kill or stop itself; see `wrapped`.

        Returns a file that is gone once that has happened.
        """
        armed = self.place.folder / f"armed-{stream}"
        new = armed.with_suffix(".new")
        new.write_text(json.dumps({"do": do, "when": when, "of": of}))
        new.rename(armed)
        return armed

    def unseen(self, before: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return how many confirmed messages of each stream are in no block that was seen: all, or the first ones."""
        return {
            name: self._unseen(publisher.source, len(publisher.source) if before is None else before[name])
            for name, publisher in self.publishers.items()
        }

    def published(self) -> dict[str, int]:
        """Return how many messages were tried in each stream."""
        return {name: len(publisher.source) for name, publisher in self.publishers.items()}

    async def waiting(self) -> dict[str, int]:
        """Return how many messages of each stream are not archived, or are and still wait for their acks."""
        left = self.unseen()
        for captured in self.captures:
            messages = await patiently(partial(captured.waiting, self.jetstream))
            left[captured.stream] = max(left[captured.stream], messages)
        return {stream: messages for stream, messages in left.items() if messages}

    def _unseen(self, source: Source, before: int) -> int:
        confirmed = (number for number in range(before) if source.state(number) is State.CONFIRMED)
        return sum(not self.looks.has(source.name, number) for number in confirmed)

    async def heal(self) -> None:
        """Mend all that a fault may have broken: servers and replicas run, and the store does as it is asked."""
        self.place.clear()
        for armed in self.place.folder.glob("armed-*"):
            armed.unlink(missing_ok=True)
        if self.nats_proxy is not None:
            self.nats_proxy.open()
        servers = [*self.nats, *([self.place.server] if self.place.server is not None else [])]
        await to_thread.run_sync(start_all, servers)
        for capturer in self.capturers:
            if not capturer.alive:
                capturer.kill()  # it may have killed itself
        await to_thread.run_sync(start_all, self.capturers)


@asynccontextmanager
async def archive_world(
    rate: float, replicas: int, *, name: str, kind: str, nodes: int = 1, streams: Sequence[str], fewer: int = 0
) -> AsyncIterator[ArchiveWorld]:
    """Give a world with a store of a kind and so many nats-servers; a single one is reached through a proxy."""
    captures = [captured for captured in CAPTURES if captured.stream in streams]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-")))
        chance = Random(f"{kind} {nodes}")  # noqa: S311 - which request is struck depends on the moment anyway
        place = await stack.enter_async_context(place_of(kind, folder, chance))
        servers = [NatsServer(folder / "nats")] if nodes == 1 else nats_cluster(folder, nodes)
        await stack.enter_async_context(in_threads(running(servers)))
        group = await stack.enter_async_context(create_task_group())
        stack.callback(group.cancel_scope.cancel)
        urls = [server.url for server in servers]
        proxy = Proxy(servers[0].port) if nodes == 1 else None
        if proxy is not None:
            await group.start(proxy.serve)
        through = f"nats://127.0.0.1:{proxy.port}" if proxy is not None else ",".join(urls)
        capturers = [
            Capturer(number, captured, place, folder, through)
            for captured in captures
            for number in range(1, max(2, replicas - fewer) + 1)
        ]
        connection = await stack.enter_async_context(connected(urls))
        world = ArchiveWorld(name, folder, place, servers, captures, capturers, connection, proxy)
        for captured in captures:
            await patiently(partial(captured.make, world.jetstream, nodes))
            source = world.ledger.source(f"{captured.stream}-1", captured.stream)
            world.publishers[captured.stream] = Publisher(captured, source, world.jetstream, rate * _SHARE)
        await stack.enter_async_context(in_threads(running(world.capturers)))
        yield world


WORLDS: Mapping[str, Callable[[float, int], AbstractAsyncContextManager[ArchiveWorld]]] = {
    name: partial(archive_world, name=name, kind=kind, nodes=nodes, streams=streams, fewer=fewer)
    for name, kind, nodes, streams, fewer in (
        ("archive-folder", "folder", 1, ("limits", "queue", "raw"), 0),
        ("archive-s3", "s3", 1, ("queue", "interest"), 1),
        ("archive-azure", "azure", 1, ("limits", "interest"), 0),
        ("archive-cluster", "s3", 3, ("limits", "queue"), 1),
    )
}
"""With three replicas, and with two."""
