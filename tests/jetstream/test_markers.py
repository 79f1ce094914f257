"""What nats-server itself puts into a stream that keeps markers of what has expired: no publisher has sent it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.support.ancestor import Ancestor, entry
from tests.support.waiting import count, numbers, until, until_empty
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from collector.local import Replica

pytestmark = pytest.mark.timeout(60)


async def test_a_marker_is_no_entry_and_goes(
    start_replica: Callable[..., Replica], go: Ancestor, database: Database[dict[str, Any]], namespace: str
) -> None:
    stream, subject = f"{namespace}:logs:marked", f"{namespace}.logs.marked"
    config = {"name": stream, "subjects": [subject], "retention": "workqueue", "storage": "file", "num_replicas": 1}
    wanted = config | {"allow_msg_ttl": True, "subject_delete_marker_ttl": 600_000_000_000, "max_msgs_per_subject": 1}
    reply = await go.connection.request(f"$JS.API.STREAM.CREATE.{stream}", json.dumps(wanted).encode())
    assert b"error" not in reply.data
    await go.jetstream.publish(subject, entry(0), headers={"Nats-TTL": "1s"})
    with anyio.fail_after(20):
        while (await go.jetstream.stream_info(stream)).state.last_seq < 2:  # noqa: ASYNC110 - the server's clock
            await anyio.sleep(0.1)
    marker = await go.connection.request(f"$JS.API.STREAM.MSG.GET.{stream}", b'{"seq": 2}')
    assert b"Nats-Marker-Reason" in b64decode(json.loads(marker.data)["message"]["hdrs"])
    await ensure_bucket(go.jetstream, Names(namespace))
    start_replica()
    await go.put("marked")
    await until_empty(go.jetstream, stream, 20)
    await go.publish("marked", [entry(1)])
    await until(lambda: count(database, "marked") == 1, 20)
    assert numbers(database, "marked") == Counter([1])
    assert database["marked_fail"].count_documents({}) == 0
