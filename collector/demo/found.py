"""The look-ups of the demo in MongoDB, and in the archive of a logger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import zstandard
from anyio import to_thread
from bson import ObjectId

from collector.demo.ledger import Letter, Verdict
from collector.mongodb.calls import calling

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pymongo.asynchronous.database import AsyncDatabase

    from transfer.names import Names

_TIMEOUT = 10.0


class Lookup:
    """The collections and archives of one namespace. Raises SinkUnavailable when MongoDB does not answer in time."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], names: Names, archive: Path) -> None:
        self._database = database
        self._names = names
        self._archive = archive

    async def holds(self, key: str, entry_id: bytes) -> bool:
        """Tell whether an entry is stored."""
        async with calling(_TIMEOUT):
            found = await self._database[self._names.collection(key)].find_one({"_id": ObjectId(entry_id)}, {"_id": 1})
        return found is not None

    async def count(self, keys: Iterable[str]) -> int:
        """Return about how many documents and dead letters these loggers have."""
        names = [name for key in keys for name in (self._names.collection(key), self._names.dead_letters(key))]
        async with calling(_TIMEOUT):
            return sum([await self._database[name].estimated_document_count() for name in names])

    async def find(self, keys: Iterable[str]) -> dict[str, Verdict]:
        """Read the identities of all documents and dead letters of these loggers."""
        return {key: await self._find(key) for key in keys}

    async def _find(self, key: str) -> Verdict:
        names, database = self._names, self._database
        async with calling(_TIMEOUT):
            stored = database[names.collection(key)].find({}, {"_id": 1})
            letters = database[names.dead_letters(key)].find({}, {"reason": 1, "error": 1})
            return Verdict(
                [document["_id"] async for document in stored],
                [Letter(letter["_id"], letter["reason"], letter["error"]) async for letter in letters],
                await to_thread.run_sync(_archived, self._archive / key),
            )


def _archived(folder: Path) -> list[ObjectId] | None:
    """Return the identity of each row in the archive of a logger, as any reader finds them: by the names of files."""
    if not folder.exists():
        return None
    read = zstandard.ZstdDecompressor().stream_reader
    blocks = [read(path.read_bytes()).read() for path in folder.rglob("*.ndjson.zst")]
    return [ObjectId(json.loads(line)["_id"]) for block in blocks for line in block.splitlines()]
