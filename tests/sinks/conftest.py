"""A replica with one logger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from tests.support.place import KEY, SOON, Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Replica
    from tests.support.ancestor import Ancestor


@pytest.fixture
async def scene(start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]]) -> Scene:
    replica = await to_thread.run_sync(lambda: start_replica(**SOON))  # it makes the bucket
    await go.make_stream(KEY)
    return Scene(replica, go, database)
