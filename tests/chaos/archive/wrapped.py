"""`collector` with a store that chaos strikes: at a create the process kills or stops itself, or a call goes wrong.

The folder CHAOS_FOLDER has the orders. A file `armed-NAME`, where NAME is CHAOS_NAME, is taken by the first process
that comes to the create that it describes. The file `weather` is looked at before each call, if CHAOS_WEATHER is set:
the weather of a store on the wire is made by a proxy. Each blow is a line in `blows`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio

from collector.archive.stores import opening
from collector.archive.stores.folder import Folder
from collector.errors import StoreUnavailable
from tests.chaos.archive.weather import CLEAR, Blow, Weather

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from collector.archive.stores import Store

_FOLDER = Path(os.environ["CHAOS_FOLDER"])
_ARMED = _FOLDER / f"armed-{os.environ['CHAOS_NAME']}"
_WEATHER = _FOLDER / "weather" if os.environ.get("CHAOS_WEATHER") else None
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_LONG_AFTER = 6.0
_ON_THE_WIRE = {Blow.CUT, Blow.CUT_ANSWER, Blow.CONFLICT}
_open_store = opening.open_store


class Struck:
    """A store between the collector and the real one. See `Store`."""

    def __init__(self, store: Store) -> None:
        self.where = store.where
        self._store = store
        self._chance = Random()  # noqa: S311 - which call is struck depends on the moment anyway

    async def create(self, path: str, data: bytes) -> bool:
        """See `Store`."""
        kind = "record" if path.startswith("_archive/") and path.endswith(".cut") else "block"
        _look_for_orders("before", kind)
        late = partial(Folder(Path(self.where)).create, path, data) if _WEATHER else None
        created: bool = await self._under_weather(partial(self._store.create, path, data), late)
        _look_for_orders("after", kind)
        return created

    async def read(self, path: str) -> bytes:
        """See `Store`."""
        content: bytes = await self._under_weather(partial(self._store.read, path))
        return content

    async def copy(self, path: str, file: BinaryIO) -> None:
        """See `Store`."""
        await self._under_weather(partial(self._store.copy, path, file))

    async def after(self, prefix: str, path: str) -> list[str]:
        """See `Store`."""
        paths: list[str] = await self._under_weather(partial(self._store.after, prefix, path))
        return paths

    async def _under_weather(self, call: Callable[[], Awaitable[Any]], late: Callable[[], object] | None = None) -> Any:
        weather = _weather()
        blow = weather.draw(self._chance)
        if blow is None or blow in _ON_THE_WIRE or (blow is Blow.ZOMBIE and late is None):
            return await call()
        _note(blow)
        pause = self._chance.uniform(0, weather.pause)
        if blow in {Blow.REFUSED, Blow.FULL}:
            raise StoreUnavailable(f"chaos: {blow}", ambiguous=False)
        if blow is Blow.ZOMBIE and late is not None:
            Thread(target=_late, args=(late, self._chance.uniform(0, _LONG_AFTER)), daemon=True).start()
            raise StoreUnavailable(f"chaos: {blow}", ambiguous=True)
        if blow is Blow.LATE:
            await anyio.sleep(pause)
        result = await call()
        if blow is Blow.LATE_ANSWER:
            await anyio.sleep(pause)
        if blow is Blow.LOST_ANSWER:
            raise StoreUnavailable(f"chaos: {blow}", ambiguous=True)
        return result


def _late(create: Callable[[], object], pause: float) -> None:
    time.sleep(pause)
    with suppress(Exception):
        create()


def _weather() -> Weather:
    if _WEATHER is not None:
        with suppress(OSError, ValueError):
            return Weather(**json.loads(_WEATHER.read_text()))
    return CLEAR


def _note(blow: str) -> None:
    with (_FOLDER / "blows").open("a") as file:
        file.write(f"{blow}\n")


def _look_for_orders(when: str, kind: str) -> None:
    """Kill or stop this process if that is what the armed file wants at this very moment."""
    try:
        order = json.loads(_ARMED.read_text())
    except (OSError, ValueError):
        return
    if (order["when"], order["of"]) != (when, kind):
        return
    with suppress(FileNotFoundError):  # another process was first
        _ARMED.rename(_ARMED.with_suffix(".taken"))
        os.kill(os.getpid(), _SIGNALS[order["do"]])


def _opened(*args: Any, **kwargs: Any) -> Struck:
    return Struck(_open_store(*args, **kwargs))


if __name__ == "__main__":
    opening.open_store = _opened
    from collector.cli import main

    main()
