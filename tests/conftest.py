"""Real servers for the tests: one of each for the whole run, started when first asked for; more for one test."""

from __future__ import annotations

import asyncio
import secrets
import signal
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import hypothesis
import nats
import pytest
from pymongo import MongoClient

from collector.local import Mongod, NatsServer, Replica
from tests.support.ancestor import Ancestor, ancestor
from tests.support.certificates import Authority
from tests.support.planted import searched_replicas

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from pymongo.database import Database
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

FAIL_POINTS = {"enableTestCommands": 1}
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job: the commands under test inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("unhurried", deadline=None)  # a busy machine makes any example late
hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(optionalhook=True)  # pytest runs without xdist too
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give xdist our order of tests: what a file makes once for all of its tests is made once."""
    from tests.support.scheduling import FilesThatShare  # noqa: PLC0415 - only where xdist asks for it

    return FilesThatShare(config, log)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run on asyncio alone: nats-py and pymongo are asyncio libraries."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def leaks() -> Iterator[list[str]]:
    """Search all that replicas say, in every test, for what is planted in the entries and secrets of the tests."""
    with searched_replicas() as found:
        yield found
        assert not found, "a replica said what it must never say, after its test"


@pytest.fixture(autouse=True)
def nothing_planted_is_said(leaks: list[str]) -> Iterator[None]:
    """Fail a test in which a replica has said a payload or a secret; set up first, so looked at last."""
    yield
    said = leaks.copy()
    leaks.clear()
    assert not said, "a replica said what it must never say"


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """Give the one nats-server for all tests; a test works in its `namespace` and leaves the process alone."""
    with TemporaryDirectory(prefix="nats-") as folder, NatsServer(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def mongod() -> Iterator[Mongod]:
    """Give the one mongod for all tests; a test works in its `namespace`'s database and leaves the process alone."""
    with TemporaryDirectory(prefix="mongod-") as folder, Mongod(Path(folder), parameters=FAIL_POINTS) as server:
        yield server
        server.kill()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a namespace, and so a database, that is nobody else's; what is in it on the common servers is dropped."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    if "nats_server" in request.fixturenames:
        asyncio.run(_drop_streams(request.getfixturevalue("nats_server").url, name))
    if "mongod" in request.fixturenames:
        with MongoClient[dict[str, object]](request.getfixturevalue("mongod").url) as client:
            client.drop_database(name)


@pytest.fixture
def own_nats() -> Iterator[Callable[..., NatsServer]]:
    """Make `own_nats(config="")`: a running nats-server that the test may stop, kill, pause or reconfigure."""
    with ExitStack() as stack:

        def start(config: str = "") -> NatsServer:
            folder = stack.enter_context(TemporaryDirectory(prefix="nats-"))
            return stack.enter_context(NatsServer(Path(folder), config=config))

        yield start


@pytest.fixture
def own_mongod() -> Iterator[Callable[[], Mongod]]:
    """Make `own_mongod()`: a running mongod that the test may stop, kill or pause."""
    with ExitStack() as stack:

        def start() -> Mongod:
            folder = stack.enter_context(TemporaryDirectory(prefix="mongod-"))
            server = stack.enter_context(Mongod(Path(folder), parameters=FAIL_POINTS))
            stack.callback(server.kill)
            return server

        yield start


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give a certificate authority with certificates of a server and a client."""
    authority = Authority.make(tmp_path_factory.mktemp("pki"))
    authority.issue("server")
    authority.issue("client")
    return authority


@pytest.fixture
def start_replica(
    namespace: str,
    nats_server: NatsServer,
    mongod: Mongod,
    own_nats: Callable[..., NatsServer],  # so that a replica ends before the servers that it would wait for at its end
    own_mongod: Callable[[], Mongod],
) -> Iterator[Callable[..., Replica]]:
    """Start a replica against the common servers, or against others; it ends with the test, before its servers."""
    with ExitStack() as stack:

        def start(nats: NatsServer = nats_server, mongo: Mongod = mongod, **settings: str) -> Replica:
            folder = stack.enter_context(TemporaryDirectory(prefix="replica-"))
            return stack.enter_context(Replica(Path(folder), namespace, nats, mongo, settings))

        yield start


@pytest.fixture
def database(namespace: str, mongod: Mongod) -> Iterator[Database[dict[str, Any]]]:
    """Give the database of the namespace."""
    with MongoClient[dict[str, Any]](mongod.url, tz_aware=True) as client:
        yield client[namespace]


@pytest.fixture
async def go(namespace: str, nats_server: NatsServer) -> AsyncIterator[Ancestor]:
    """Give the Go system's publisher."""
    async with ancestor(nats_server.url, namespace) as publisher:
        yield publisher


async def _drop_streams(url: str, namespace: str) -> None:
    async with await nats.connect(url) as connection:
        jetstream = connection.jetstream()
        for stream in await jetstream.streams_info():
            if stream.config.name and stream.config.name.startswith((f"{namespace}:logs:", f"KV_{namespace}_logs")):
                await jetstream.delete_stream(stream.config.name)
