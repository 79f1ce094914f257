"""A store, as far as the protocol needs it: it creates objects once, and a put may arrive long after it was given up.

The rules "2" and "4" are mirrored here: switched off, records or blocks are overwritten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.archive.record import decode
from tests.simulation.world import Broken

if TYPE_CHECKING:
    from tests.simulation.archive.world import Wire, World

Row = tuple[int, int]
"""When the stream stored a message, which no other message shares, and the position of an entry in it."""


def packed(rows: list[Row]) -> bytes:
    """Return rows as the bytes of a block."""
    return b"\n".join(b"%d %d" % row for row in rows)


def unpacked(block: bytes) -> list[Row]:
    """Return the rows of a block."""
    return [(int(line.split()[0]), int(line.split()[1])) for line in block.splitlines()]


class Store:
    """The objects, and which block each row is in."""

    def __init__(self, world: World) -> None:
        self.objects: dict[str, bytes] = {}
        self.places: dict[Row, str] = {}
        self._world = world

    def create(self, path: str, data: bytes) -> bool:
        """Create an object unless it is there; look at each block that gets visible."""
        world, record = self._world, path.startswith("_archive/")
        overwrites = world.rules.overwrites_records if record else world.rules.overwrites_blocks
        if path in self.objects and not overwrites:
            world.tally["puts of what is there"] += 1
            return False
        if not record:
            self._judge(path, unpacked(data))
        self.objects[path] = data
        world.tally["records" if record else "blocks"] += 1
        world.say("store", "has {}", path)
        return True

    def read(self, path: str) -> bytes:
        """Return an object."""
        return self.objects[path]

    def after(self, prefix: str, path: str) -> list[str]:
        """List a folder."""
        return sorted(one for one in self.objects if one.startswith(f"{prefix}/") and one > path)

    def cursor(self) -> int:
        """Return the end of the log."""
        records = [path for path in self.objects if path.startswith("_archive/")]
        return decode(self.objects[max(records)], max(records)).to if records else 0

    def _judge(self, path: str, rows: list[Row]) -> None:
        """Look whether a reader of all blocks sees each row once, and always the same."""
        if len(set(rows)) < len(rows):
            raise Broken("twice", f"a row is twice in {path}")
        if path in self.objects and unpacked(self.objects[path]) != rows:
            raise Broken("changed", f"{path} had {unpacked(self.objects[path])} and has {rows}")
        for row in rows:
            if self.places.setdefault(row, path) != path:
                raise Broken("twice", f"row {row} is in {self.places[row]} and in {path}")
        self._world.say("store", "sees {} in {}", rows, path)


class StoreClient:
    """The store over the wire of one replica. Raises Unknown."""

    def __init__(self, wire: Wire, store: Store) -> None:
        self._wire = wire
        self._store = store

    async def create(self, path: str, data: bytes) -> bool:
        """See `LogStore`."""
        made: bool = await self._wire.call(self._store.create, path, data, may_be_late=True)
        return made

    async def read(self, path: str) -> bytes:
        """See `LogStore`."""
        data: bytes = await self._wire.call(self._store.read, path)
        return data

    async def after(self, prefix: str, path: str) -> list[str]:
        """See `LogStore`."""
        paths: list[str] = await self._wire.call(self._store.after, prefix, path)
        return paths
