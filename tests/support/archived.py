"""A logger that is archived in a folder beside MongoDB: its declaration, and the messages in its files."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from transfer.wire import ArchiveSpec, CollectionSpec, LoggerSpec, encode_spec

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.ancestor import Ancestor


async def declare(
    go: Ancestor, key: str, archive: ArchiveSpec | None, *, timeseries: bool = False, **more: Any
) -> None:
    """Declare a logger, or change how it is archived."""
    collection = CollectionSpec(kind="timeseries") if timeseries else None
    await go.make_stream(key)
    await go.put(key, encode_spec(LoggerSpec(key, collection=collection, archive=archive, **more)))


def blocks(folder: Path) -> list[Path]:
    """Return all blocks under a folder, by their names alone."""
    return sorted(path for path in folder.rglob("*.ndjson*") if path.is_file())


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all blocks that a glob finds, at any moment."""
    found: list[dict[str, Any]] = []
    for path in blocks(folder):
        content = path.read_bytes()
        found += map(json.loads, (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines())
    return found


def archived(folder: Path) -> Counter[int]:
    """Return how often each entry of `tests.support.ancestor.entry` is in the archive."""
    return Counter(row["data"]["number"] for row in rows(folder))
