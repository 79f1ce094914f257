"""The worlds in which faults happen: real servers, replicas as processes, traffic, and a way to mend everything."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import create_task_group, current_time, fail_after, sleep, to_thread
from nats import errors as nats_errors
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from collector.demo.signals import in_threads
from collector.local import Mongod, NatsServer
from tests.chaos.ledger import Ledger
from tests.chaos.proxy import Proxy
from tests.chaos.replica import Victim
from tests.chaos.servers import (
    FAIL_POINTS,
    STANDING_STILL,
    fail_point,
    initiate,
    members,
    nats_cluster,
    primary,
    running,
    start_all,
    uri,
)
from tests.chaos.traffic import Form, Traffic
from tests.chaos.ways import AsGo, ByClient, InBundles, Way
from transfer import Transfer, TransferError
from transfer.jetstream.api import request
from transfer.jetstream.connection import Connection
from transfer.jetstream.streams import StreamState, stream_state
from transfer.nats_settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from tests.chaos.ledger import Source

_T = TypeVar("_T")
NAMESPACE = "chaos"
CALM = "calm"
"""The logger beside, which no fault is aimed at."""
OCCUPIED, TAKEN = "occupied", "taken"
"""A document of the user's own, and the value that its unique index grants nobody else."""
_CALM_RATE = 50.0
_READY_TIMEOUT = 60.0
_WAYS: Mapping[Form, Sequence[tuple[type[Way], float]]] = {
    Form.PLAIN: ((ByClient, 0.6), (AsGo, 0.4)),
    Form.SERIES: ((ByClient, 0.4), (AsGo, 0.3), (InBundles, 0.3)),
    Form.BUNDLES: ((InBundles, 1.0),),
}


@dataclass
class World:
    """Everything that can be struck, and everything that is needed to know what it did."""

    folder: Path
    nats: Sequence[NatsServer]
    mongods: Sequence[Mongod]
    replicas: list[Victim]
    connection: Client
    mongo_uri: str
    nats_proxy: Proxy | None = None
    mongo_proxy: Proxy | None = None
    arbiter: bool = False
    """Whether the last mongod has no data, and only votes."""
    ledger: Ledger = field(default_factory=Ledger)
    traffics: dict[str, Traffic] = field(default_factory=dict)
    _names_given: int = 0

    def __post_init__(self) -> None:
        self.jetstream: JetStreamContext = self.connection.jetstream(timeout=3.0)
        self.transfer = Transfer(self.jetstream, namespace=NAMESPACE)

    @property
    def aims(self) -> list[Traffic]:
        """The traffic that faults are aimed at, one of each form."""
        return [traffic for key, traffic in self.traffics.items() if key != CALM]

    async def set_logger(self, key: str, form: Form) -> None:
        """Declare a logger; try until JetStream is there to do it."""
        await self.patiently(partial(self.transfer.set, form.logger(key, len(self.nats))))

    def source(self, key: str, what: str) -> Source:
        """Make a source of entries for a logger, under a name of its own."""
        self._names_given += 1
        return self.ledger.source(f"{key}-{what}-{self._names_given}", key)

    def new_key(self, what: str) -> str:
        """Return the key of a logger that there is not yet."""
        self._names_given += 1
        return f"{what}{self._names_given}"

    async def publish(self, key: str, way: type[Way], entries: int) -> None:
        """Publish so many entries to a logger, one message after the other."""
        sending = self._way(key, way)
        numbers = sending.source.take(entries)
        for first in range(0, entries, way.entries):
            await sending.send(numbers[first : first + way.entries])

    def _way(self, key: str, way: type[Way]) -> Way:
        return way(self.source(key, way.__name__), self.transfer, self.jetstream)

    async def open_traffic(self, key: str, form: Form, rate: float) -> None:
        """Declare a logger and make its producers."""
        await self.set_logger(key, form)
        self.traffics[key] = Traffic(key, form, [(self._way(key, way), rate * share) for way, share in _WAYS[form]])

    async def patiently(self, call: Callable[[], Any], seconds: float = _READY_TIMEOUT) -> Any:
        """See the function."""
        return await patiently(call, seconds)

    async def waiting(self) -> dict[str, int]:
        """Return how many messages wait in the stream of each logger."""
        loggers = await self.patiently(self.transfer.list)
        return {one.logger.key: one.stream.messages for one in loggers if getattr(one, "stream", None)}

    async def drained(self, key: str, seconds: float = _READY_TIMEOUT) -> None:
        """Wait until nothing waits in the stream of a logger. Raises TimeoutError."""
        with fail_after(seconds):
            while await self._messages(key):  # noqa: ASYNC110 - nobody in this process could set an event
                await sleep(0.05)

    async def _messages(self, key: str) -> int:
        """Return what the stream's leader says: a list may come from a peer that is behind."""
        stream = self.transfer.names.stream(key)
        state: StreamState = await self.patiently(lambda: stream_state(self.jetstream, stream))
        return state.messages

    @property
    def data_bearing(self) -> Sequence[Mongod]:
        """The mongods that have the data."""
        return self.mongods[:-1] if self.arbiter else self.mongods

    async def primary(self) -> Mongod:
        """Return the mongod that takes writes; wait for one."""
        return await self.until("a primary", lambda: primary(self.mongods))

    async def until(self, what: str, look: Callable[[], _T | None], seconds: float = _READY_TIMEOUT) -> _T:
        """Return what `look`, called in a thread again and again, returns that is true. Raises TimeoutError."""
        deadline = current_time() + seconds
        while not (found := await to_thread.run_sync(look)):
            if current_time() > deadline:
                raise TimeoutError(f"expected {what} within {seconds:.0f} s")
            await sleep(0.01)
        return found

    async def fail(self, mode: str | dict[str, int], **data: Any) -> None:
        """Set a fail point on inserts of the mongod that takes writes."""
        mongod = await self.primary()
        await to_thread.run_sync(fail_point, mongod, mode, {"failCommands": ["insert"], **data})

    async def heal(self) -> None:
        """Mend everything that a fault may have broken: servers and replicas run, proxies pass, nothing fails."""
        for proxy in (self.nats_proxy, self.mongo_proxy):
            if proxy is not None:
                proxy.open()
        await to_thread.run_sync(start_all, [*self.nats, *self.mongods])
        for mongod in self.mongods:
            with suppress(PyMongoError):
                await to_thread.run_sync(fail_point, mongod, "off")
        for mongod in self.data_bearing if len(self.mongods) > 1 else ():
            for way in STANDING_STILL.values():
                with suppress(PyMongoError):
                    await to_thread.run_sync(partial(way, [mongod], stopped=False))
        await to_thread.run_sync(start_all, self.replicas)


async def patiently(call: Callable[[], Any], seconds: float = _READY_TIMEOUT) -> Any:
    """Await what a call returns until it works; raise its error when it does not in time."""
    deadline = current_time() + seconds
    while True:
        try:
            return await call()
        except (TransferError, nats_errors.Error, TimeoutError, OSError):
            if current_time() > deadline:
                raise
            await sleep(0.1)


async def blocking(*calls: Callable[[], Any]) -> None:
    """Call what blocks, all at the same time, each in a thread."""
    async with create_task_group() as group:
        for call in calls:
            group.start_soon(to_thread.run_sync, call)


@asynccontextmanager
async def single(rate: float, replicas: int) -> AsyncIterator[World]:
    """One nats-server and one mongod, which the replicas reach through proxies."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-")))
        server, mongod = NatsServer(folder / "nats"), Mongod(folder / "mongod", parameters=FAIL_POINTS)
        await stack.enter_async_context(in_threads(running([server, mongod])))
        group = await stack.enter_async_context(create_task_group())
        stack.callback(group.cancel_scope.cancel)
        nats_proxy, mongo_proxy = Proxy(server.port), Proxy(mongod.port)
        await group.start(nats_proxy.serve)
        await group.start(mongo_proxy.serve)
        through = {
            "NATS_HOSTS": f"nats://127.0.0.1:{nats_proxy.port}",
            "DATABASE": f"mongodb://127.0.0.1:{mongo_proxy.port}/?directConnection=true",
        }
        victims = [Victim(number, folder, NAMESPACE, server, mongod, through) for number in range(1, replicas + 1)]
        connection = await stack.enter_async_context(connected([server.url]))
        world = World(folder, [server], [mongod], victims, connection, mongod.url, nats_proxy, mongo_proxy)
        yield await _populated(world, stack, rate)


@asynccontextmanager
async def cluster(rate: float, replicas: int) -> AsyncIterator[World]:
    """Three nats-servers with streams of three replicas, and a replica set of three mongods."""
    async with _several(rate, replicas, nats_servers=3, arbiter=False) as world:
        yield world


@asynccontextmanager
async def arbiter(rate: float, replicas: int) -> AsyncIterator[World]:
    """One nats-server, and a replica set of a primary, a secondary and an arbiter."""
    async with _several(rate, replicas, nats_servers=1, arbiter=True) as world:
        yield world


@asynccontextmanager
async def _several(rate: float, replicas: int, *, nats_servers: int, arbiter: bool) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="chaos-")))
        one = nats_servers == 1
        servers = [NatsServer(folder / "nats")] if one else nats_cluster(folder, nats_servers)
        mongods = members(folder, 3)
        await stack.enter_async_context(in_threads(running([*servers, *mongods])))
        await to_thread.run_sync(partial(initiate, mongods, arbiter=arbiter))
        urls = [server.url for server in servers]
        all_of_them = {"NATS_HOSTS": ",".join(urls), "DATABASE": uri(mongods)}
        victims = [
            Victim(number, folder, NAMESPACE, servers[0], mongods[0], all_of_them) for number in range(1, replicas + 1)
        ]
        connection = await stack.enter_async_context(connected(urls))
        world = World(folder, servers, mongods, victims, connection, uri(mongods), arbiter=arbiter)
        await world.primary()
        await world.patiently(partial(_replicated_bucket, world))
        yield await _populated(world, stack, rate)


async def _populated(world: World, stack: AsyncExitStack, rate: float) -> World:
    for form in Form:
        await world.open_traffic(form.value, form, rate)
    await world.open_traffic(CALM, Form.PLAIN, _CALM_RATE)
    await to_thread.run_sync(_prepare_collections, world)
    await stack.enter_async_context(in_threads(running(world.replicas)))
    return world


def _prepare_collections(world: World) -> None:
    """Give plain collections a rule and a unique index of the user's, and a document that has the only ticket."""
    with MongoClient[dict[str, Any]](world.mongo_uri) as client:
        database = client[world.transfer.names.database]
        for traffic in world.traffics.values():
            if traffic.form is not Form.SERIES:
                name = world.transfer.names.collection(traffic.key)
                database.create_collection(name, validator={"refused": {"$exists": False}})
                database[name].insert_one({"_id": OCCUPIED, "ticket": TAKEN})
                having = {"ticket": {"$exists": True}}
                database[name].create_index("ticket", unique=True, partialFilterExpression=having)


async def _replicated_bucket(world: World) -> None:
    """Make the bucket of the loggers as the ancestor does, but in three copies; it is bound when it is there."""
    bucket = world.transfer.names.bucket
    config = {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "num_replicas": len(world.nats),
        "allow_direct": True,
        "deny_delete": True,
        "allow_rollup_hdrs": True,
    }
    await request(world.jetstream, f"STREAM.CREATE.KV_{bucket}", config)


@asynccontextmanager
async def connected(urls: Sequence[str]) -> AsyncIterator[Client]:
    """Connect the publishers, who keep their connection through everything."""

    async def overlook(_: Exception) -> None:
        """Leave it to the publishers: they see what is not confirmed."""

    connection = Connection()  # it lets go of what it has open when a server dies in a connect
    settings = NatsSettings(tuple(urls)).keywords() | {"reconnect_time_wait": 0.1}
    await connection.connect(**settings, error_cb=overlook, name="chaos")
    try:
        yield connection
    finally:
        await connection.close()
