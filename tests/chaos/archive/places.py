"""The places of archives that can be struck: a folder on a small disk, a real S3 server, and a real Azure server."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import create_task_group

from collector.archive.stores.opening import open_store
from collector.demo.signals import in_threads
from tests.chaos.archive.http_proxy import HttpProxy
from tests.chaos.archive.weather import CLEAR
from tests.chaos.servers import running
from tests.support.object_stores import BUCKET, Azurite, Weed, azure_environ, s3_environ

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from random import Random

    from collector.archive.stores import Store
    from collector.local.server import Server
    from tests.chaos.archive.weather import Blow, Weather

_DISK = 128 << 20
_PATIENCE = 20.0
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && mkdir "$2/archive" && echo ready && exec cat'


@dataclass
class Place:
    """Where the archive of a world is."""

    kind: str
    """`folder`, `s3` or `azure`."""
    address: str
    environ: Mapping[str, str]
    """The variables with which replicas reach it."""
    store: Store
    """The way of those who look at it: not struck by the weather."""
    folder: Path
    """Of the orders for replicas."""
    proxy: HttpProxy | None = None
    server: Server | None = None
    blows: dict[str, int] = field(default_factory=dict)
    """How often the weather has struck, by what."""

    def set_weather(self, weather: Weather) -> None:
        """Have requests struck from now on."""
        if self.proxy is not None:
            self.proxy.weather = weather
            return
        new = self.folder / "weather.new"
        new.write_text(json.dumps(weather.as_dict()))
        new.rename(self.folder / "weather")

    def clear(self) -> None:
        """Have no more requests struck, and mend the place."""
        self.set_weather(CLEAR)
        self.mend()

    def mend(self) -> None:
        """Take all requests; empty a full disk, and put a folder back that was moved away."""
        if self.proxy is not None:
            self.proxy.open = True
        if self.kind == "folder":
            self.filler.unlink(missing_ok=True)
            self.put_back()

    @property
    def filler(self) -> Path:
        """The file that fills the disk of a folder."""
        return Path(self.address).with_name("filler")

    def fill(self) -> None:
        """Take all room that the disk of a folder has."""
        with self.filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def move_away(self) -> None:
        """Have the folder not be there, as one that is not mounted."""
        Path(self.address).rename(f"{self.address}.away")

    def put_back(self) -> None:
        """Have the folder be there again."""
        away = Path(f"{self.address}.away")
        if away.exists():
            away.rename(self.address)

    @property
    def late(self) -> int:
        """Requests that are still to come although nobody waits for them."""
        return self.proxy.late if self.proxy is not None else 0

    def all_blows(self) -> dict[str, int]:
        """Return how often the weather has struck so far, by what."""
        noted = self.folder / "blows"
        if self.proxy is not None or not noted.exists():
            return dict(self.blows)
        counted: dict[str, int] = {}
        for blow in noted.read_text().splitlines():
            counted[blow] = counted.get(blow, 0) + 1
        return counted


@asynccontextmanager
async def place_of(kind: str, folder: Path, chance: Random) -> AsyncIterator[Place]:
    """Give a place with nothing in it; it is gone afterwards."""
    orders = folder / "orders"
    orders.mkdir()
    if kind == "folder":
        (folder / "disk").mkdir()
        async with in_threads(small_disk(folder / "disk")) as disk:
            address = str(disk / "archive")
            yield Place(kind, address, {}, open_store(address, {}, patience=_PATIENCE), orders)
        return
    server = Weed(folder / "weed") if kind == "s3" else Azurite(folder / "azurite")
    environ_of: Callable[[int], dict[str, str]] = s3_environ if kind == "s3" else azure_environ
    address = f"{'s3' if kind == 's3' else 'az'}://{BUCKET}/chaos"
    async with in_threads(running([server])), create_task_group() as group:
        blows: dict[str, int] = {}

        def note(blow: Blow) -> None:
            blows[blow] = blows.get(blow, 0) + 1

        proxy = HttpProxy(server.port, chance, note)
        await group.start(proxy.serve, group)
        store = open_store(address, server.environ, patience=_PATIENCE)
        yield Place(kind, address, environ_of(proxy.port), store, orders, proxy, server, blows)
        group.cancel_scope.cancel()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small disk at a folder, for nobody but us, and give its path; without such rights it is the folder."""
    if not can_mount():
        (folder / "archive").mkdir()
        yield folder
        return
    mounting = subprocess.Popen(
        ["unshare", "-Urm", "sh", "-c", _MOUNT, "sh", str(_DISK), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert mounting.stdout is not None
    try:
        if mounting.stdout.readline() != b"ready\n":
            raise OSError("expected to mount a small disk, but that failed")
        yield Path(f"/proc/{mounting.pid}/root{folder}")
    finally:
        mounting.communicate()


def can_mount() -> bool:
    """Tell whether this user may have a disk of its own."""
    able = shutil.which("unshare") and not subprocess.run(["unshare", "-Urm", "true"], check=False).returncode
    return bool(able)
