"""NATS that is brought back from an older copy counts on from there: its new messages are written to the file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.ancestor import ancestor, entry
from tests.support.outlets import lines_of, numbers, replicas_without_mongodb
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from collector.local import NatsServer

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("killed", [False, True])
async def test_messages_that_get_used_sequences_are_written(
    own_nats: Callable[..., NatsServer], namespace: str, tmp_path: Path, *, killed: bool
) -> None:
    nats, folder, published = own_nats(), tmp_path / "files", 0
    with replicas_without_mongodb(nats, namespace) as start:
        replica = start(COLLECTOR_SINK=f"file:{folder}", COLLECTOR_BATCH_ENTRIES="20")
        async with ancestor(nats.url, namespace) as go:
            await until(lambda: replica.status["connected"] == {"nats": True}, 5)
            await go.declare("a")

        async def written(count: int) -> None:
            nonlocal published
            async with ancestor(nats.url, namespace) as go:
                published += await go.publish("a", [entry(published + number) for number in range(count)])
            await until(lambda: numbers(lines_of(folder, "a")) == list(range(published)), 5)

        await written(100)
        nats.stop()
        shutil.copytree(nats.folder / "jetstream", tmp_path / "copy")
        nats.start()
        await written(100)
        nats.stop()
        shutil.rmtree(nats.folder / "jetstream")
        shutil.copytree(tmp_path / "copy", nats.folder / "jetstream")
        if killed:
            replica.kill()
        nats.start()
        if killed:
            replica.start()
        await written(300)
    assert len(lines_of(folder, "a")) == 500
