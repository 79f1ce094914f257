"""The servers that there are several of: a NATS cluster and a replica set of MongoDB, each server a process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from collector.local import Mongod, NatsServer
from collector.local.server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from collector.local import Server

FAIL_POINTS = {"enableTestCommands": 1}
_FAIL_POINT_TIMEOUT = 20.0


class Node(NatsServer):
    """A nats-server that is one of several."""

    @property
    def server_name(self) -> str:
        """What the cluster calls it."""
        return self._server_name


class Member(Mongod):
    """A mongod that is one of several; it has started when it answers, whoever is the primary."""

    def _answers(self) -> bool:
        try:
            with direct(self) as client:
                return bool(client.admin.command("serverStatus")["pid"] == self.pid)
        except PyMongoError:
            return False


def direct(mongod: Mongod, timeout: float = 5.0) -> MongoClient[dict[str, Any]]:
    """Connect to one mongod, whatever its state, with short deadlines."""
    return MongoClient(
        "127.0.0.1",
        mongod.port,
        directConnection=True,
        serverSelectionTimeoutMS=1000,
        socketTimeoutMS=int(timeout * 1000),
    )


@contextmanager
def running(servers: Sequence[Server]) -> Iterator[None]:
    """Start them at the same time; leaving kills them, for nobody will read their data."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
        start_all(servers)
        yield


def start_all(servers: Iterable[Server]) -> None:
    """Start those that do not run, at the same time, and wake those that are paused. Raises ServerDidNotStart."""
    down = []
    for server in servers:
        if server.alive:
            server.resume()
        else:
            down.append(server)
    with ThreadPoolExecutor(max(1, len(down))) as pool:
        for _ in pool.map(lambda server: server.start(), down):
            pass


def nats_cluster(folder: Path, count: int) -> list[Node]:
    """Make servers that know each other by their routes."""
    ports = [free_port() for _ in range(count)]
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports)
    return [
        Node(
            folder / f"nats-{number}",
            config=f'cluster {{ name: chaos, listen: "127.0.0.1:{port}", routes: [{routes}] }}',
        )
        for number, port in enumerate(ports)
    ]


def members(folder: Path, count: int) -> list[Mongod]:
    """Make the members of a replica set, which `initiate` joins once they run."""
    return [Member(folder / f"mongod-{number}", parameters=FAIL_POINTS) for number in range(count)]


def initiate(mongods: Sequence[Mongod], *, arbiter: bool = False) -> None:
    """Make them a replica set with short elections, the last one without data if asked; a primary comes later."""
    config = {
        "_id": "rs0",
        "members": [
            {"_id": number, "host": f"127.0.0.1:{mongod.port}", "arbiterOnly": arbiter and mongod is mongods[-1]}
            for number, mongod in enumerate(mongods)
        ],
        "settings": {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500},
    }
    with direct(mongods[0]) as client:
        client.admin.command("replSetInitiate", config)


def uri(mongods: Sequence[Mongod]) -> str:
    """Return the URI of a replica set."""
    return f"mongodb://{','.join(f'127.0.0.1:{mongod.port}' for mongod in mongods)}/?replicaSet=rs0"


def primary(mongods: Sequence[Mongod]) -> Mongod | None:
    """Return the member that takes writes, if one says that it does."""
    for mongod in mongods:
        try:
            with direct(mongod) as client:
                if client.admin.command("hello")["isWritablePrimary"]:
                    return mongod
        except PyMongoError:
            continue
    return None


def replication(mongods: Iterable[Mongod], *, stopped: bool) -> None:
    """Have these secondaries fetch nothing from the primary, while they say that they are well; or go on."""
    for mongod in mongods:
        with direct(mongod) as client:
            point = {"configureFailPoint": "stopReplProducer", "mode": "alwaysOn" if stopped else "off"}
            client.admin.command(point)


def locked(mongods: Iterable[Mongod], *, stopped: bool) -> None:
    """Have these secondaries write nothing, while they say that they are well; or go on."""
    for mongod in mongods:
        with direct(mongod) as client:
            if stopped:
                client.admin.command("fsync", lock=True)
            else:
                with suppress(OperationFailure):  # it is not locked
                    client.admin.command("fsyncUnlock")


def paused(mongods: Iterable[Mongod], *, stopped: bool) -> None:
    """Have these secondaries hang; or go on."""
    for mongod in mongods:
        if stopped:
            mongod.pause()
        elif mongod.alive:
            mongod.resume()


STANDING_STILL = {"stop replicating": replication, "are locked": locked, "hang": paused}
"""Ways in which secondaries do not follow, each a function of which and whether."""


def step_up(mongod: Mongod) -> bool:
    """Have a secondary stand for election now; return whether it has won. One that closes its connections has not."""
    with direct(mongod) as client:
        try:
            client.admin.command("replSetStepUp")
        except (OperationFailure, AutoReconnect):
            return False
    return True


def fail_point(mongod: Mongod, mode: str | dict[str, int], data: dict[str, Any] | None = None) -> None:
    """Set or end (`off`) mongod's fail point `failCommand`; mongod answers when nothing is blocked by it any more."""
    command: dict[str, Any] = {"configureFailPoint": "failCommand", "mode": mode}
    with direct(mongod, _FAIL_POINT_TIMEOUT) as client:
        client.admin.command(command if data is None else {**command, "data": data})
