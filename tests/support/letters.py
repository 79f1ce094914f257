"""`collector dead-letters` as a process, and letters for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
from anyio import fail_after, to_thread
from bson import ObjectId

from collector.dead_letters.store import DeadLetterStore
from collector.model import Delivery, Reason, Rejected
from collector.mongodb.calls import open_mongo
from tests.support.ancestor import Ancestor, entry
from tests.support.waiting import until

if TYPE_CHECKING:
    from pymongo.database import Database

    from collector.local import Mongod


MIB = 1024 * 1024


FAILED_AT = 1_800_000_000.25


SECRET = "planted-4f1d"


POISON = b"\xc1" + SECRET.encode()


NO_NATS = "nats://127.0.0.1:1"


class Command:
    """`collector dead-letters`, with the settings of a namespace and none of the environment's."""

    def __init__(self, namespace: str, mongod: Mongod, hosts: str) -> None:
        ours = ("COLLECTOR_", "NATS_", "DATABASE", "NAMESPACE", "MODE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment = {**inherited, "NAMESPACE": namespace, "DATABASE": mongod.url, "NATS_HOSTS": hosts}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "collector", "dead-letters", *arguments]
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        status, out, err = await self.raw(*arguments)
        return status, out.decode(), err.decode()

    async def raw(self, *arguments: str) -> tuple[int, bytes, bytes]:
        process = self.start(*arguments)
        out, err = await to_thread.run_sync(process.communicate)
        return process.returncode, out, err

    async def done(self, *arguments: str) -> Any:
        """Return what it answers in JSON; it must have no complaints."""
        status, out, err = await self.run(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)


def reject(body: bytes = POISON, raw_headers: bytes = b"", sequence: int = 42, **changes: Any) -> Rejected:
    of = Delivery(
        "beta.logs.system", "reply", body, raw_headers, "beta:logs:system", sequence, 3, 1_700_000_000 * 10**9
    )
    values = {
        "position": None,
        "identity": ObjectId(),
        "reason": Reason.MALFORMED,
        "error": f"expected this, got {SECRET}",
        "body": body,
    }
    return Rejected(of, **values | changes)


async def keep(mongod: Mongod, namespace: str, *rejects: Rejected, failed_at: float = FAILED_AT) -> None:
    """Store letters as the collector does."""
    async with open_mongo(mongod.url) as client:
        await DeadLetterStore(client[namespace], "system_fail", 5.0, lambda: failed_at).store(rejects)


def numbers(database: Database[dict[str, Any]]) -> Counter[int]:
    """How often each entry is stored."""
    return Counter(found["number"] for found in database.system_logs.find({}, {"number": 1}))


async def refused(database: Database[dict[str, Any]], go: Ancestor, count: int) -> None:
    """Have entries refused by a validator, which is taken away when they are dead letters."""
    database.create_collection("system_logs", validator={"never": True})
    await go.declare("system")
    await go.publish("system", (entry(number) for number in range(count)))
    await until(lambda: database.system_fail.count_documents({}) == count, 20)
    database.command("collMod", "system_logs", validator={})


async def emptied(go: Ancestor) -> None:
    """Wait until nothing is left in the stream."""
    with fail_after(30):
        while (  # noqa: ASYNC110 - nobody in this process could set an event
            await go.jetstream.stream_info(f"{go.namespace}:logs:system")
        ).state.messages:
            await anyio.sleep(0.01)
