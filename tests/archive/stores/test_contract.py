"""The contract of a store, on a real folder, a real S3 server (seaweedfs) and a real Azure server (azurite)."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from anyio import create_task_group, fail_after
from anyio.lowlevel import checkpoint

from collector.archive.capture import Capture
from collector.archive.stores.opening import open_store
from collector.archive.stores.probe import PATH, probe
from collector.errors import NotThere, StoreRefused, StoreUnavailable
from tests.chaos.proxy import Direction, Proxy
from tests.support.capturing import captured, each_once, until_archived
from tests.support.object_stores import BUCKET, Azurite, Weed, azure_environ, s3_environ
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from collector.archive.stores import Store
    from collector.local import NatsServer

KIB = 1024
MIB = 1024 * KIB
PATIENCE = 60.0
RACERS = 16


@dataclass(frozen=True)
class Scene:
    """One kind of store, and a root that is of one test."""

    kind: str
    address: str
    environ: Mapping[str, str]

    def open(self, **more: str) -> Store:
        """Open the store as another process would."""
        return open_store(self.address, {**self.environ, **more}, patience=PATIENCE)

    def behind(self, port: int, patience: float = PATIENCE) -> Store:
        """Open the store through a proxy."""
        environ = s3_environ(port) if self.kind == "s3" else azure_environ(port)
        return open_store(self.address, environ, patience=patience)


@pytest.fixture(scope="module")
def weed() -> Iterator[Weed]:
    with TemporaryDirectory(prefix="weed-") as folder, Weed(Path(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with TemporaryDirectory(prefix="azurite-") as folder, Azurite(Path(folder)) as server:
        yield server


def scene_of(kind: str, request: pytest.FixtureRequest) -> Scene:
    root = secrets.token_hex(8)
    if kind == "s3":
        return Scene(kind, f"s3://{BUCKET}/{root}/in", request.getfixturevalue("weed").environ)
    if kind == "azure":
        return Scene(kind, f"az://{BUCKET}/{root}", request.getfixturevalue("azurite").environ)
    return Scene(kind, str(request.getfixturevalue("tmp_path")), {})


@pytest.fixture(params=["local", "s3", "azure"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return scene_of(request.param, request)


@pytest.fixture(params=["s3", "azure"])
def remote(request: pytest.FixtureRequest) -> Scene:
    return scene_of(request.param, request)


@pytest.fixture
async def proxy(remote: Scene, request: pytest.FixtureRequest) -> AsyncIterator[Proxy]:
    """Give a proxy before the server."""
    server = request.getfixturevalue("weed" if remote.kind == "s3" else "azurite")
    proxy = Proxy(server.port)
    async with create_task_group() as group:
        await group.start(proxy.serve)
        with fail_after(150):
            yield proxy
        group.cancel_scope.cancel()


def noise(size: int) -> bytes:
    """Return bytes that no compression makes fewer."""
    return hashlib.shake_128(b"seed").digest(size)


@pytest.mark.parametrize("retention", ["limits", "workqueue"])
async def test_a_capture_has_each_message_in_one_object(
    scene: Scene, nats_server: NatsServer, namespace: str, retention: str
) -> None:
    with fail_after(150):
        async with captured(nats_server, namespace, retention) as stream:
            await stream.publish(45)
            capture = Capture(namespace, to=scene.open(), durable=stream.durable, compression="none", max_messages=15)
            async with Capture.connected(capture, nats_server.url) as running:
                await until_archived(running, 45)
        store = scene.open()
        objects = [await store.read(path) for path in await store.after(namespace, "")]
    sequences = [json.loads(line)["_seq"] for content in objects for line in content.splitlines()]
    assert Counter(sequences) == each_once(45)


async def test_a_store_passes_the_probe_again_and_again_and_it_leaves_one_object(scene: Scene) -> None:
    for _ in range(3):
        await probe(scene.open())
    assert await scene.open().after("", "") == [PATH]


async def test_of_racing_creators_one_wins_and_its_object_is_there(scene: Scene) -> None:
    stores, won = [scene.open() for _ in range(RACERS)], []

    async def race(path: str, racer: int) -> None:
        if await stores[racer].create(path, bytes([racer]) * KIB):
            won.append((path, racer))

    paths = [f"race/{number}.ndjson" for number in range(2)]
    async with create_task_group() as group:
        for path in paths:
            for racer in range(RACERS):
                group.start_soon(race, path, racer)
    assert Counter(path for path, _ in won) == Counter(paths)
    for path, racer in won:
        assert await stores[0].read(path) == bytes([racer]) * KIB


@pytest.mark.parametrize("size", [0, KIB, 30 * MIB])
async def test_an_object_is_created_once_whatever_its_size(scene: Scene, size: int) -> None:
    store = scene.open()
    first = noise(size)
    assert await store.create("a/b.parquet", first)
    assert not await store.create("a/b.parquet", b"another one")
    assert not await scene.open().create("a/b.parquet", bytes(size))
    assert await store.read("a/b.parquet") == first
    copy = io.BytesIO()
    await store.copy("a/b.parquet", copy)
    assert copy.getvalue() == first


async def test_paths_are_listed_after_another_one_as_soon_as_they_are_created(scene: Scene) -> None:
    store = scene.open()
    paths = [
        "ab/1",
        "a/2",
        "a/b/1",
        "top",
        "a-b/1",
        "a/b/2",
        "a.b/1",
        "b/00000000000000000001.cut",
        "a/1",
        "5/1",
        "5-1",
    ]
    for number, path in enumerate(paths, 1):
        await store.create(path, b"")
        assert await scene.open().after("", "") == sorted(paths[:number])
    for prefix in ("", "a", "a/b", "b", "none"):
        inside = sorted(path for path in paths if path.startswith(f"{prefix}/") or not prefix)
        for path in ("", *paths, "a", "a/b", "b/0", "5", "5-0", "54", "z"):
            assert await store.after(prefix, path) == [each for each in inside if each > path], (prefix, path)


@pytest.mark.parametrize(
    "path", ["k=a%2Fb/üñ 日本.x", "a b/~#?&=+@!$'()*,;:[]{}|^`\"<>/%25%zz.x", "é" * 120 + "/" + "x" * 255]
)
async def test_a_path_is_the_same_in_every_call(scene: Scene, path: str) -> None:
    store = scene.open()
    assert await store.create(path, b"data")
    assert not await store.create(path, b"more")
    assert await store.read(path) == b"data"
    assert await store.after("", "") == [path]
    assert await store.after(path.rpartition("/")[0], "") == [path]


async def test_an_object_that_is_not_there_is_told(scene: Scene) -> None:
    await probe(scene.open())
    for path in ("none", "_archive/none", "a/b/c"):
        with pytest.raises(NotThere, match=f"expected an object {path} in .*, but there is none"):
            await scene.open().read(path)
        with pytest.raises(NotThere):
            await scene.open().copy(path, io.BytesIO())


async def test_a_wrong_login_and_a_missing_container_are_refused_with_what_to_do(remote: Scene) -> None:
    key = {"AWS_SECRET_ACCESS_KEY": "hunter2", "AZURE_STORAGE_ACCOUNT_KEY": "aHVudGVyMg=="}
    with pytest.raises(StoreRefused, match=r"403 .*: grant .*, or correct the login in A") as raised:
        await probe(remote.open(**key))
    assert "hunter2" not in str(raised.value)
    if remote.kind == "azure":
        other = Scene("azure", "az://missing/in", remote.environ).open()
        for call in (partial(other.create, "a", b""), partial(other.read, "a"), partial(other.after, "", "")):
            with pytest.raises(StoreRefused, match="404 ContainerNotFound: make the container, or correct its name"):
                await call()


async def test_a_missing_right_is_named_by_the_probe(weed: Weed) -> None:
    store = open_store(f"s3://{BUCKET}/{secrets.token_hex(4)}", s3_environ(weed.port, key="reader"), patience=PATIENCE)
    with pytest.raises(StoreRefused, match=r"to create _archive/probe/.* 403 .*: grant s3:PutObject") as raised:
        await probe(store)
    assert "s3:GetObject" not in str(raised.value)
    assert "s3:ListBucket" not in str(raised.value)


async def test_a_secret_that_is_replaced_in_its_file_is_used_from_then_on(remote: Scene, tmp_path: Path) -> None:
    name = "AWS_SECRET_ACCESS_KEY" if remote.kind == "s3" else "AZURE_STORAGE_ACCOUNT_KEY"
    file = tmp_path / "secret"
    file.write_text("aHVudGVyMg==\n")
    store = remote.open(**{name: "", f"{name}_FILE": str(file)})
    with pytest.raises(StoreRefused, match="403"):
        await store.create("a", b"")
    file.unlink()
    with pytest.raises(StoreUnavailable, match=f"{name}_FILE: expected the path of a text file"):
        await store.create("a", b"")
    file.write_text(remote.environ[name])
    assert await store.create("a", b"")
    assert await store.after("", "") == ["a"]


# --- the way to the server


async def until_there(store: Store, path: str) -> None:
    while path not in await store.after("", ""):
        await checkpoint()


async def test_an_answer_that_is_lost_is_ambiguous_and_the_same_create_again_tells(remote: Scene, proxy: Proxy) -> None:
    store = remote.behind(proxy.port, patience=1.0)
    await remote.behind(proxy.port).create("warm", b"")
    proxy.stall(Direction.DOWN)
    with pytest.raises(StoreUnavailable, match="to create a/b, got no answer in time: look at the store") as raised:
        await store.create("a/b", b"data")
    assert raised.value.ambiguous
    with pytest.raises(StoreUnavailable, match="no answer in time"):
        await store.read("a/b")
    await until_there(remote.open(), "a/b")
    proxy.reset()
    proxy.open()
    patient = remote.behind(proxy.port)
    assert not await patient.create("a/b", b"data"), "the server had created it"
    assert await patient.read("a/b") == b"data"


async def test_a_late_answer_is_an_answer(remote: Scene, proxy: Proxy) -> None:
    store, answers = remote.behind(proxy.port), []

    async def create() -> None:
        answers.append(await store.create("a/b", b"data"))

    proxy.stall(Direction.DOWN)
    async with create_task_group() as group:
        group.start_soon(create)
        await until_there(remote.open(), "a/b")
        assert answers == []
        proxy.open()
    assert answers == [True]


@pytest.mark.parametrize("reset", [True, False])
async def test_an_upload_that_is_cut_in_the_middle_leaves_no_part(remote: Scene, proxy: Proxy, *, reset: bool) -> None:
    store, data, told = remote.behind(proxy.port), noise(4 * MIB), []

    async def create() -> None:
        with pytest.raises(StoreUnavailable) as raised:
            await store.create("a/b", data)
        told.append(raised.value.ambiguous)

    proxy.slow(2 * MIB, Direction.UP)
    async with create_task_group() as group:
        group.start_soon(create)
        await until(lambda: proxy.passed > MIB, 10)
        (proxy.reset if reset else proxy.cut)()
    assert told == [True]
    proxy.open()
    assert await remote.open().after("", "") == []
    assert await store.create("a/b", data)
    assert await store.read("a/b") == data


async def test_a_download_that_is_cut_is_no_object_that_is_shorter(remote: Scene, proxy: Proxy) -> None:
    store, data = remote.behind(proxy.port), noise(4 * MIB)
    await remote.open().create("a/b", data)

    async def read() -> None:
        with pytest.raises(StoreUnavailable, match="to read a/b"):
            await store.read("a/b")

    proxy.slow(2 * MIB, Direction.DOWN)
    async with create_task_group() as group:
        group.start_soon(read)
        await until(lambda: proxy.passed > MIB, 10)
        proxy.cut()
    proxy.open()
    assert await store.read("a/b") == data


async def test_a_server_that_is_killed_among_creates_has_all_that_it_answered(weed: Weed) -> None:
    store = open_store(f"s3://{BUCKET}/{secrets.token_hex(8)}", weed.environ, patience=10.0)
    answered: list[str] = []
    ambiguous: list[str] = []

    async def create(creator: int) -> None:
        for number in count():
            path = f"{creator}/{number}"
            try:
                assert await store.create(path, path.encode() * 100)
            except StoreUnavailable as exc:
                ambiguous.extend([path] if exc.ambiguous else [])
                return
            answered.append(path)

    async with create_task_group() as group:
        for creator in range(RACERS):
            group.start_soon(create, creator)
        await until(lambda: len(answered) > 2 * RACERS, 20)
        weed.kill()
    with pytest.raises(StoreUnavailable, match="Connection refused") as raised:
        await store.create("down", b"")
    assert not raised.value.ambiguous, "the server was not reached"
    weed.start()
    assert ambiguous, "some of sixteen creates were under way"
    for path in ambiguous:
        await store.create(path, path.encode() * 100)
    for path in (*answered[-2 * RACERS :], *ambiguous):
        assert await store.read(path) == path.encode() * 100
